//go:build unix || windows

package backendtest

import (
	"io/fs"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// processCases test a queue that is a backend.ProcessWatcher.
var processCases = []wantedCase{
	// contract: S5
	{
		name: "a process that ends",
		rule: "S5: one Readable event when the process has ended; the process is not reaped",
		run: withProcesses(func(t *testing.T, q *queue) {
			for k := backend.Key(1); k < 10; k++ {
				child, p := fixture.NewChild(t)
				q.watchProcess(p.Pid, k)
				q.silent("running")
				child.Release()
				require.Equal(t, backend.ReadyReadable, q.expect(k))
				q.silent("once")
				if k%2 == 0 {
					child.Wait(p.Pid)
					q.unwatchProcess(p.Pid, k)
				} else {
					q.unwatchProcess(p.Pid, k)
					child.Wait(p.Pid)
				}
				q.silent("reaped")
			}
		}),
	},
	// contract: S5
	{
		name: "a process that ends during a wait",
		rule: "S5: a process that ends during a wait ends the wait, even if it was registered during that wait",
		run: withProcesses(func(t *testing.T, q *queue) {
			for k := backend.Key(1); k < 10; k++ {
				child, p := fixture.NewChild(t)
				wait := q.start(4, soon)
				q.watchProcess(p.Pid, k)
				child.Release()
				require.Equal(t, []backend.Event{{Key: k, Ready: backend.ReadyReadable}}, <-wait)
				q.unwatchProcess(p.Pid, k)
			}
		}),
	},
	// contract: S5
	{
		name: "a process that has ended already",
		rule: "S5: a process that ended earlier gives its event, or os.ErrProcessDone, which tells the core",
		run: withProcesses(func(t *testing.T, q *queue) {
			child, p := fixture.NewChild(t)
			child.End()
			if err := q.tryProcess(p.Pid, 1); err != nil {
				require.ErrorIs(t, err, os.ErrProcessDone)
				q.silent("refused")
			} else {
				require.Equal(t, backend.ReadyReadable, q.expect(1))
				q.silent("once")
				q.unwatchProcess(p.Pid, 1)
			}
			child.Wait(p.Pid)
			if err := q.tryProcess(p.Pid, 2); err != nil {
				require.ErrorIs(t, err, os.ErrProcessDone, "reaped")
				q.silent("refused")
			} else {
				// Windows watches an ended process while a handle to it is open.
				require.Equal(t, "windows", runtime.GOOS)
				require.Equal(t, backend.ReadyReadable, q.expect(2))
			}
		}),
	},
	// contract: S5
	{
		name: "a process reaped before its event",
		rule: "S5: the event comes even if the process is reaped first",
		run: withProcesses(func(t *testing.T, q *queue) {
			child, p := fixture.NewChild(t)
			q.watchProcess(p.Pid, 1)
			child.Release()
			child.Wait(p.Pid)
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			q.silent("once")
			q.unwatchProcess(p.Pid, 1)
		}),
	},
	// contract: R6, S5
	{
		name: "no event after UnwatchProcess",
		rule: "S5, R6: after UnwatchProcess no event comes, even if the process has ended",
		run: withProcesses(func(t *testing.T, q *queue) {
			child, p := fixture.NewChild(t)
			q.watchProcess(p.Pid, 1)
			q.unwatchProcess(p.Pid, 1)
			q.watchProcess(p.Pid, 2)
			child.End()
			q.unwatchProcess(p.Pid, 2)
			q.silent("not watched")
		}),
	},
	// contract: S5
	{
		name: "a process watched twice",
		rule: "S5: a second WatchProcess fails with fs.ErrExist and changes nothing, or gives a second event",
		run: withProcesses(func(t *testing.T, q *queue) {
			child, p := fixture.NewChild(t)
			q.watchProcess(p.Pid, 1)
			want := map[backend.Key]bool{1: true}
			if err := q.tryProcess(p.Pid, 2); err != nil {
				require.ErrorIs(t, err, fs.ErrExist)
			} else {
				want[2] = true
			}
			q.silent("running")
			child.Release()
			for len(want) > 0 {
				for _, ev := range q.wait(8, soon) {
					require.True(t, want[ev.Key])
					delete(want, ev.Key)
				}
			}
			q.silent("once")
		}),
	},
	// contract: P5, S5
	{
		name: "many processes end with room for one event",
		rule: "S5, P5: each of many processes gives its event, and so does a source that is always ready",
		run: withProcesses(func(t *testing.T, q *queue) {
			const n = 20
			children := fixture.NewChildren(t, n)
			k := backend.Key(1)
			for pid := range children.Each {
				q.watchProcess(pid, k)
				k++
			}
			a, b := fixture.Pair(t)
			b.Write("x")
			q.add(a, 1000, backend.Readable)
			require.Equal(t, backend.ReadyReadable, q.expect(1000))
			children.End()
			seen := make(map[backend.Key]int)
			for round := 0; len(seen) < n+1 || seen[1000] < 5; round++ {
				require.Less(t, round, 10*n, "%v", seen)
				for _, ev := range q.wait(1, soon) {
					require.Equal(t, backend.ReadyReadable, ev.Ready)
					if seen[ev.Key]++; ev.Key != 1000 {
						require.Equal(t, 1, seen[ev.Key])
					}
				}
			}
		}),
	},
	// contract: S5
	{
		name: "a process and a descriptor of the same number",
		rule: "S5: a PID and a descriptor of the same number do not interfere",
		run: withProcesses(func(t *testing.T, q *queue) {
			child, p := fixture.NewChild(t)
			if p.Pid >= fixture.DescriptorLimit(t) {
				t.Skipf("PID %d is above the descriptor limit", p.Pid)
			}
			r, w := fixture.Pipe(t)
			r = r.MoveTo(p.Pid)
			q.add(r, 1, backend.Readable)
			q.watchProcess(p.Pid, 2)
			q.silent("neither is ready")
			w.Write("x")
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			r.Drain()
			child.Release()
			require.Equal(t, backend.ReadyReadable, q.expect(2))
			q.remove(r)
			q.unwatchProcess(p.Pid, 2)
		}),
	},
	// contract: S5
	{
		name: "a PID without a process",
		rule: "S5: watching a PID without a process is os.ErrProcessDone",
		run: withProcesses(func(t *testing.T, q *queue) {
			require.ErrorIs(t, q.tryProcess(1<<31-1, 1), os.ErrProcessDone)
		}),
	},
}

// withProcesses skips the case if the queue does not watch processes.
func withProcesses(run func(*testing.T, *queue)) func(*testing.T, *queue) {
	return func(t *testing.T, q *queue) {
		if _, ok := q.Backend.(backend.ProcessWatcher); !ok {
			t.Skipf("%s does not watch processes", q.Name())
		}
		run(t, q)
	}
}

// tryProcess makes the queue watch a process.
func (q *queue) tryProcess(pid int, k backend.Key) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.interest[k] = backend.Readable
	err := q.Backend.(backend.ProcessWatcher).WatchProcess(pid, k)
	if err != nil {
		delete(q.interest, k)
	}
	return err
}

// watchProcess is tryProcess for cases where it must succeed.
func (q *queue) watchProcess(pid int, k backend.Key) {
	q.t.Helper()
	require.NoError(q.t, q.tryProcess(pid, k), "watch process %d", pid)
}

// unwatchProcess undoes watchProcess.
func (q *queue) unwatchProcess(pid int, k backend.Key) {
	q.t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	require.NoError(q.t, q.Backend.(backend.ProcessWatcher).UnwatchProcess(pid, k))
	delete(q.interest, k)
}
