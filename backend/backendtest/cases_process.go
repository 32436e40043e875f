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

// processCases: the end of processes, for a queue that is a backend.ProcessWatcher.
var processCases = []wantedCase{
	{
		name: "a process that ends",
		rule: "S5: one event, Readable, when the process has ended; it is left to be waited for",
		run: withProcesses(func(t *testing.T, q *queue) {
			for k := backend.Key(1); k < 10; k++ {
				child, p := fixture.NewChild(t)
				q.watchProcess(p.Pid, k)
				q.silent("it runs")
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
				q.silent("it is over")
			}
		}),
	},
	{
		name: "a process that ends while another waits",
		rule: "S5: a process that is watched, or ends, while another goroutine waits ends the wait",
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
	{
		name: "a process that has ended already",
		rule: "S5: a process that ended before gives its event, or os.ErrProcessDone, by which the core knows",
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
				require.ErrorIs(t, err, os.ErrProcessDone, "waited for, it is no more")
				q.silent("refused")
			} else {
				// Windows knows it for as long as anybody has a handle of it.
				require.Equal(t, "windows", runtime.GOOS)
				require.Equal(t, backend.ReadyReadable, q.expect(2))
			}
		}),
	},
	{
		name: "a process that was waited for before its event",
		rule: "S5: who waits for the process does not take its event away",
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
	{
		name: "a process that is watched no more",
		rule: "S5, R6: after UnwatchProcess there is no event, also if it was there already",
		run: withProcesses(func(t *testing.T, q *queue) {
			child, p := fixture.NewChild(t)
			q.watchProcess(p.Pid, 1)
			q.unwatchProcess(p.Pid, 1)
			q.watchProcess(p.Pid, 2)
			child.End()
			q.unwatchProcess(p.Pid, 2)
			q.silent("watched no more")
		}),
	},
	{
		name: "a process watched twice",
		rule: "S5: a second WatchProcess is fs.ErrExist and disturbs nothing, or has an event of its own",
		run: withProcesses(func(t *testing.T, q *queue) {
			child, p := fixture.NewChild(t)
			q.watchProcess(p.Pid, 1)
			want := map[backend.Key]bool{1: true}
			if err := q.tryProcess(p.Pid, 2); err != nil {
				require.ErrorIs(t, err, fs.ErrExist)
			} else {
				want[2] = true
			}
			q.silent("it runs")
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
	{
		name: "processes that end with little room",
		rule: "S5, P5: each of many has its event, and what is always ready has, too",
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
	{
		name: "a process whose number is a descriptor's",
		rule: "S5: numbers of processes and of descriptors have nothing to do with each other",
		run: withProcesses(func(t *testing.T, q *queue) {
			child, p := fixture.NewChild(t)
			if p.Pid >= fixture.DescriptorLimit(t) {
				t.Skipf("no descriptor can have the number of process %d", p.Pid)
			}
			r, w := fixture.Pipe(t)
			r = r.MoveTo(p.Pid)
			q.add(r, 1, backend.Readable)
			q.watchProcess(p.Pid, 2)
			q.silent("neither")
			w.Write("x")
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			r.Drain()
			child.Release()
			require.Equal(t, backend.ReadyReadable, q.expect(2))
			q.remove(r)
			q.unwatchProcess(p.Pid, 2)
		}),
	},
	{
		name: "what is no process",
		rule: "S5: a number that no process has is os.ErrProcessDone",
		run: withProcesses(func(t *testing.T, q *queue) {
			require.ErrorIs(t, q.tryProcess(1<<31-1, 1), os.ErrProcessDone)
		}),
	},
}

// withProcesses is a case for queues that can tell of processes.
func withProcesses(run func(*testing.T, *queue)) func(*testing.T, *queue) {
	return func(t *testing.T, q *queue) {
		if _, ok := q.Backend.(backend.ProcessWatcher); !ok {
			t.Skipf("%s does not watch processes by itself", q.Name())
		}
		run(t, q)
	}
}

// tryProcess has the queue watch a process.
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

// watchProcess and unwatchProcess are for cases where they must succeed.
func (q *queue) watchProcess(pid int, k backend.Key) {
	q.t.Helper()
	require.NoError(q.t, q.tryProcess(pid, k), "watch process %d", pid)
}

func (q *queue) unwatchProcess(pid int, k backend.Key) {
	q.t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	require.NoError(q.t, q.Backend.(backend.ProcessWatcher).UnwatchProcess(pid, k))
	delete(q.interest, k)
}
