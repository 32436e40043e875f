//go:build unix || windows

package epore_test

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
)

const processRule = "S5: one event, Readable, when a process has ended, also if it ended before; it can still be waited for"

// eachWay runs a test for each way to learn of the end of a process, and for both
// strategies.
func eachWay(t *testing.T, rule string, run func(t *testing.T, p *epore.Poll)) {
	for n, way := range []string{"by the best", "by descriptor", "by SIGCHLD"} {
		t.Run(way, func(t *testing.T) {
			switch {
			case way == "by SIGCHLD" && runtime.GOOS != "linux":
				t.Skip("Go has no waitid here")
			case way == "by descriptor" && open(t).Backend() != "kqueue":
				t.Skip("that is the best")
			}
			defer epore.ProcessWaysFrom(n)()
			eachStrategy(t, rule, run)
		})
	}
}

// bySignal reports that only children can be watched, and that their end is seen late.
func bySignal() bool { return epore.ProcessWays() == 1 || os.Getenv(envNoPidfd) != "" }

// envNoPidfd names the errno with which pidfd_open is refused, if it is: see
// TestProcess_WithoutPidfd.
const envNoPidfd = "EPORE_NO_PIDFD"

// find returns a process by its PID.
func find(t testing.TB, pid int) *os.Process {
	t.Helper()
	q, err := os.FindProcess(pid)
	require.NoError(t, err)
	t.Cleanup(func() { _ = q.Release() })
	return q
}

func newProcess(t testing.TB, p *epore.Poll, token epore.Token, process *os.Process) *epore.Process {
	t.Helper()
	c, err := epore.NewProcess(p.Registry(), token, process)
	if errors.Is(err, errors.ErrUnsupported) && runtime.GOOS != "linux" {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// contract: S5
func TestProcess_Ends(t *testing.T) {
	eachWay(t, processRule, func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(4)
		watch := []func(q *os.Process) *epore.Process{
			func(q *os.Process) *epore.Process { return newProcess(t, p, 7, q) },
			func(q *os.Process) *epore.Process { return newProcess(t, p, 7, find(t, q.Pid)) },
		}
		for i := range 6 {
			child, q := fixture.NewChild(t)
			c := watch[i%2](q)
			require.Empty(t, ready(t, p, events), "it runs")
			if i < 4 {
				child.Release()
			} else {
				polled := asleep(p, func() error { return p.Poll(events, forever) })
				child.Release()
				require.NoError(t, <-polled)
				require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, all(events))
				child.Wait(q.Pid)
				continue
			}
			require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, next(t, p, events))
			require.Empty(t, ready(t, p, events), "once")
			child.Wait(q.Pid)
			require.Empty(t, ready(t, p, events), "once")
			require.NoError(t, c.Close())
		}
	})
}

// Watched while another goroutine waits, ended or not.
// contract: S5
func TestProcess_EndsDuringPoll(t *testing.T) {
	eachWay(t, processRule, func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(4)
		for _, before := range []bool{false, true} {
			child, q := fixture.NewChild(t)
			if before {
				child.End()
			}
			polled := asleep(p, func() error { return p.Poll(events, forever) })
			newProcess(t, p, 7, q)
			child.Release()
			require.NoError(t, <-polled)
			require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, all(events))
			child.Wait(q.Pid)
		}
	})
}

// contract: S5
func TestProcess_HasEnded(t *testing.T) {
	eachWay(t, processRule, func(t *testing.T, p *epore.Poll) {
		child, q := fixture.NewChild(t)
		child.End()
		events := epore.NewEvents(4)
		for range 3 {
			c := newProcess(t, p, 7, q)
			require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, next(t, p, events))
			require.Empty(t, ready(t, p, events), "once")
			require.NoError(t, c.Close())
			newProcess(t, p, 8, find(t, q.Pid))
			require.Equal(t, []epore.Event{{Token: 8, Ready: 1}}, next(t, p, events))
		}
		slots := p.Slots()
		child.Wait(q.Pid)
		for range 10 {
			_, err := epore.NewProcess(p.Registry(), 7, q)
			require.ErrorIs(t, err, os.ErrProcessDone)
			require.ErrorContains(t, err, "register process ")
			if runtime.GOOS != "windows" { // where it exists for as long as anybody has a handle
				_, err = epore.NewProcess(p.Registry(), 7, find(t, q.Pid))
				require.ErrorIs(t, err, os.ErrProcessDone)
			}
			require.Empty(t, ready(t, p, events))
		}
		require.LessOrEqual(t, p.Slots(), slots+1, "a refusal leaves nothing behind")
	})
}

// A Wait before the event does not remove the event, and the event is like any other,
// whatever the kernel reports about a process that no longer exists.
// contract: S5
func TestProcess_WaitedForBeforeItsEvent(t *testing.T) {
	eachWay(t, processRule, func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(4)
		for range 3 {
			child, q := fixture.NewChild(t)
			c := newProcess(t, p, 7, q)
			child.Release()
			child.Wait(q.Pid)
			require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, next(t, p, events))
			require.Empty(t, ready(t, p, events), "once")
			require.NoError(t, c.Close())
		}
	})
}

// contract: S5
func TestProcess_WatchedTwice(t *testing.T) {
	eachWay(t, "S5: a process may be watched any number of times, and each gives an event", func(t *testing.T, p *epore.Poll) {
		other := open(t, epore.WithStrategy(p.Strategy()))
		child, q := fixture.NewChild(t)
		newProcess(t, p, 1, q)
		newProcess(t, p, 2, q)
		closed := newProcess(t, p, 3, q)
		newProcess(t, p, 4, find(t, q.Pid))
		newProcess(t, other, 5, q)
		events := epore.NewEvents(8)
		require.Empty(t, ready(t, p, events))
		require.NoError(t, closed.Close())
		child.Release()
		seen := make(map[epore.Token]int)
		for len(seen) < 3 {
			for _, ev := range next(t, p, events) {
				seen[ev.Token]++
			}
		}
		require.Equal(t, map[epore.Token]int{1: 1, 2: 1, 4: 1}, seen)
		require.Equal(t, []epore.Event{{Token: 5, Ready: 1}}, next(t, other, events))
		require.Empty(t, tokens(t, p))
		require.Empty(t, tokens(t, other))
	})
}

// contract: S5
func TestProcess_Many(t *testing.T) {
	eachWay(t, "S5: 500 children at once without a thread or a goroutine for each", func(t *testing.T, p *epore.Poll) {
		wanted := 500
		switch {
		case backendtest.Long():
		case fixture.Wine: // where to begin one takes 50 ms and more; a thread waits for 63
			wanted = 70
		case p.Strategy() == epore.Block:
			wanted = 50
		}
		n := fixture.Affordable(t, wanted)
		children := fixture.NewChildren(t, n)
		threads := fixture.Threads()
		goroutines := runtime.NumGoroutine()
		token := make(map[epore.Token]int)
		for pid, q := range children.Each {
			newProcess(t, p, epore.Token(pid), q)
			token[epore.Token(pid)] = pid
		}
		require.Less(t, runtime.NumGoroutine(), goroutines+20, "none for each child; the runtime may have started some")
		events := epore.NewEvents(64)
		polled := asleep(p, func() error { return p.Poll(events, forever) })
		children.Release()
		require.NoError(t, <-polled)
		for {
			for ev := range events.All() {
				pid, ok := token[ev.Token]
				require.True(t, ok, "%v again", ev)
				delete(token, ev.Token)
				children.Wait(pid)
			}
			if len(token) == 0 {
				break
			}
			require.NoError(t, p.Poll(events, fixture.Soon))
			require.NotZero(t, events.Len(), "%d are missing", len(token))
		}
		after := fixture.Threads()
		t.Logf("reached %d of %d children; %d threads before, %d after", n, wanted, threads, after)
		require.LessOrEqual(t, after, threads+16)
		require.Empty(t, tokens(t, p))
	})
}

// contract: S5
func TestProcess_Closed(t *testing.T) {
	eachWay(t, "S5, R6: a closed Process is silent, also in the batch in hand, and leaves nothing", func(t *testing.T, p *epore.Poll) {
		limit := min(fixture.DescriptorLimit(t), 1024)
		events := epore.NewEvents(4)
		w := newWaker(t, p, 1)
		before := 0
		for i := range 12 {
			if i == 2 { // what is created once exists now
				before = fixture.OpenDescriptors(limit)
			}
			child, q := fixture.NewChild(t)
			c := newProcess(t, p, 7, q)
			switch i % 4 {
			case 0:
				require.NoError(t, c.Close())
				require.NoError(t, c.Close())
				child.End()
				require.Empty(t, ready(t, p, events), "closed before the end")
			case 1:
				child.End()
				require.NoError(t, c.Close())
				require.Empty(t, ready(t, p, events), "closed before the Poll")
			case 2:
				child.End()
				require.Len(t, next(t, p, events), 1)
				require.NoError(t, c.Close())
				require.Empty(t, all(events), "closed with its event in hand")
			case 3:
				child.End()
				require.NoError(t, w.Wake())
				require.NoError(t, p.Poll(events, fixture.Soon))
				for ev := range events.All() {
					require.NoError(t, c.Close(), "in the loop")
					if ev.Token == 7 {
						break
					}
				}
			}
			ready(t, p, events)
			child.Wait(q.Pid)
			require.Empty(t, tokens(t, p))
		}
		awaitNoGoroutine("process.(*childWatch)")
		require.Less(t, fixture.OpenDescriptors(limit), before+10, "10 were closed since")

		child, q := fixture.NewChild(t)
		var closing sync.WaitGroup
		for range 20 {
			c := newProcess(t, p, 7, q)
			for range 3 {
				closing.Go(func() { assert.NoError(t, c.Close()) })
			}
		}
		closing.Go(child.Release)
		closing.Wait()
		child.Wait(q.Pid)
		require.Empty(t, tokens(t, p))
		awaitNoGoroutine("process.(*childWatch)")
	})
}

// contract: P9, S5
func TestProcess_PollClosed(t *testing.T) {
	eachWay(t, "S5: a Poll's Close closes its Processes, too; afterwards they answer ErrClosed", func(t *testing.T, p *epore.Poll) {
		limit := min(fixture.DescriptorLimit(t), 1024)
		child, q := fixture.NewChild(t)
		found := find(t, q.Pid)
		before := fixture.OpenDescriptors(limit)
		for i := range 10 {
			other, err := queuetest.Open(epore.WithStrategy(p.Strategy()))
			require.NoError(t, err)
			c := newProcess(t, other, 1, q)
			d := newProcess(t, other, 2, found)
			var working sync.WaitGroup
			working.Go(func() {
				for other.Poll(epore.NewEvents(1), forever) == nil {
				}
			})
			working.Go(func() { // created concurrently with the Close, it is refused or closed with the others
				for {
					if _, err := epore.NewProcess(other.Registry(), 3, q); err != nil {
						assert.ErrorIs(t, err, epore.ErrClosed)
						return
					}
				}
			})
			if i%2 == 0 {
				working.Go(func() { assert.NoError(t, d.Close()) })
			}
			require.NoError(t, other.Close())
			working.Wait()
			require.NoError(t, c.Close())
			_, err = epore.NewProcess(other.Registry(), 1, q)
			require.ErrorIs(t, err, epore.ErrClosed)
			awaitNoGoroutine("process.(*childWatch)")
		}
		require.LessOrEqual(t, fixture.OpenDescriptors(limit), before+9, "fewer than the Polls that were")
		child.Release()
		child.Wait(q.Pid)
	})
}

// contract: S6
func TestProcess_SharesLittleRoom(t *testing.T) {
	eachWay(t, "S6: with capacity 1 and an always-ready socket, the end of a process arrives within two Polls; and processes do not starve sockets", func(t *testing.T, p *epore.Poll) {
		a, b := fixture.Pair(t)
		b.Write("x")
		register(t, p, a, 1, epore.Readable)
		events := epore.NewEvents(1)
		for _, n := range []int{1, 3, 1, 1, 3, 2} {
			children := fixture.NewChildren(t, n)
			for pid, q := range children.Each {
				newProcess(t, p, epore.Token(pid), q)
			}
			require.Equal(t, epore.Token(1), next(t, p, events)[0].Token)
			children.End()
			if bySignal() {
				p.AwaitPosted(int32(n))
			}
			for polls := 1; len(children.Each) > 0; polls++ {
				if runtime.GOOS != "windows" { // where the system posts it when it comes to that
					require.LessOrEqual(t, polls, 2*n)
				}
				if token := next(t, p, events)[0].Token; token != 1 {
					children.Wait(int(token))
				}
			}
			require.Equal(t, epore.Token(1), next(t, p, events)[0].Token)
		}
	})
}

// contract: S5
func TestProcess_Invalid(t *testing.T) {
	eachWay(t, "S5, E1, E3: an invalid process is refused, and the error says what and why", func(t *testing.T, p *epore.Poll) {
		_, child := fixture.NewChild(t)
		newProcess(t, p, 1, child) // or skips
		longer := int64(child.Pid) | 1<<32
		for _, pid := range []int{0, -1, -child.Pid, math.MinInt, int(longer)} {
			if pid == child.Pid { // numbers have 32 bits here
				continue
			}
			_, err := epore.NewProcess(p.Registry(), 1, &os.Process{Pid: pid})
			require.ErrorIs(t, err, fs.ErrInvalid)
		}
		_, err := epore.NewProcess(p.Registry(), 1, nil)
		require.ErrorIs(t, err, fs.ErrInvalid)
		require.ErrorContains(t, err, "register process 0: ")
		_, err = epore.NewProcess(p.Registry(), 1, new(os.Process))
		require.ErrorIs(t, err, fs.ErrInvalid)
		q, err := os.FindProcess(os.Getpid())
		require.NoError(t, err)
		require.NoError(t, q.Release())
		_, err = epore.NewProcess(p.Registry(), 1, q)
		if runtime.GOOS == "windows" { // where Wait releases it, too
			require.ErrorIs(t, err, os.ErrProcessDone)
		} else {
			require.ErrorIs(t, err, fs.ErrInvalid)
			require.ErrorContains(t, err, "was released")
		}
		_, err = epore.NewProcess(p.Registry(), 1, &os.Process{Pid: math.MaxInt32})
		require.ErrorIs(t, err, os.ErrProcessDone)
		require.ErrorContains(t, err, "register process 2147483647: os: process already finished")
	})
}

// The PID of a process that was waited for belongs to another process by now.
// contract: S5
func TestProcess_PIDReused(t *testing.T) {
	eachWay(t, "S5: an os.Process is never mistaken for another one with its number", func(t *testing.T, p *epore.Poll) {
		child, q := fixture.NewChild(t)
		child.Release()
		child.Wait(q.Pid)
		other, o := fixture.NewChild(t)
		newProcess(t, p, 1, o)
		q.Pid = o.Pid
		_, err := epore.NewProcess(p.Registry(), 2, q)
		require.ErrorIs(t, err, os.ErrProcessDone)
		other.End()
		require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, next(t, p, epore.NewEvents(4)))
		require.Empty(t, tokens(t, p))
	})
}

// contract: S5
func TestProcess_NotAChild(t *testing.T) {
	eachWay(t, "S5: a process that is not a child can be watched where the kernel has a handle for it; otherwise the error is errors.ErrUnsupported", func(t *testing.T, p *epore.Poll) {
		_, err := epore.NewProcess(p.Registry(), 1, find(t, os.Getpid()))
		if bySignal() {
			require.ErrorIs(t, err, errors.ErrUnsupported)
			require.ErrorContains(t, err, "not a child of this process")
			awaitNoGoroutine("process.(*childWatch)")
			return
		}
		if errors.Is(err, errors.ErrUnsupported) && runtime.GOOS != "linux" {
			t.Skip(err)
		}
		require.NoError(t, err)
		require.Empty(t, tokens(t, p))
	})
}

// E4: running out of descriptors is an error.
// contract: E4
func TestProcess_OutOfDescriptors(t *testing.T) {
	defer epore.ProcessWaysFrom(1)()
	eachStrategy(t, "E4: running out of descriptors is an error for the call that needed one, and disturbs nothing else", func(t *testing.T, p *epore.Poll) {
		child, q := fixture.NewChild(t)
		newProcess(t, p, 1, q)
		restore := fixture.LowerDescriptorLimit(t)
		_, err := epore.NewProcess(p.Registry(), 2, q)
		restore()
		require.ErrorIs(t, err, syscall.EMFILE)
		require.ErrorContains(t, err, "ulimit -n")
		newProcess(t, p, 3, q)
		child.End()
		require.ElementsMatch(t, []epore.Token{1, 3}, tokens(t, p))
	})
}

// watcher is a queue that watches processes, or returns an error.
type watcher struct {
	*backendtest.Fake
	refuse  error
	watched map[backend.Key]int
}

func (w *watcher) WatchProcess(pid int, k backend.Key) error {
	if w.refuse != nil {
		return w.refuse
	}
	w.watched[k] = pid
	return nil
}

func (w *watcher) UnwatchProcess(pid int, k backend.Key) error {
	if w.watched[k] != pid {
		return errSorry
	}
	delete(w.watched, k)
	return nil
}

// contract: S5
func TestProcess_WatchedByQueue(t *testing.T) {
	guard(t, "package backend: the core's promises to a ProcessWatcher, and how it handles the errors")
	f := &watcher{Fake: backendtest.NewFake(), watched: make(map[backend.Key]int)}
	p, err := epore.NewWith(f)
	require.NoError(t, err)
	child, q := fixture.NewChild(t)
	c := newProcess(t, p, 1, q)
	require.Len(t, f.watched, 1)
	events := epore.NewEvents(4)
	for key, pid := range f.watched {
		require.Equal(t, q.Pid, pid)
		f.Inject(backend.Event{Key: key, Ready: backend.ReadyReadable | backend.ReadyReadClosed | backend.ReadyError})
	}
	require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, next(t, p, events), "Readable, and nothing else")
	require.NoError(t, c.Close())
	require.Empty(t, f.watched)
	require.Empty(t, all(events))

	f.refuse = errSorry
	_, err = epore.NewProcess(p.Registry(), 1, q)
	require.ErrorIs(t, err, errSorry)
	require.Equal(t, 1, p.Slots())

	// The PID exists, so the process has ended and can be waited for. (Not on Windows, where
	// a process that has ended is like any other.)
	f.refuse = os.ErrProcessDone
	if runtime.GOOS != "windows" {
		d := newProcess(t, p, 2, q)
		require.Equal(t, []epore.Event{{Token: 2, Ready: 1}}, next(t, p, events))
		require.NoError(t, d.Close())
	} else {
		_, err = epore.NewProcess(p.Registry(), 2, q)
		require.ErrorIs(t, err, os.ErrProcessDone)
	}
	require.Equal(t, 1, p.Slots())

	// Another way is available: the Fake accepts any descriptor, and has no events for it.
	for _, f.refuse = range []error{fs.ErrExist, errors.ErrUnsupported} {
		if runtime.GOOS == "windows" { // it is not
			_, err = epore.NewProcess(p.Registry(), 3, q)
			require.ErrorIs(t, err, errors.ErrUnsupported)
			continue
		}
		before := f.Watched()
		d := newProcess(t, p, 3, q)
		require.Equal(t, before+1, f.Watched())
		require.NoError(t, d.Close())
		require.Equal(t, before, f.Watched())
	}

	// The core calls only Close on a queue that is being closed.
	f.refuse = nil
	e := newProcess(t, p, 4, q)
	require.NoError(t, p.Close())
	require.NoError(t, e.Close())
	require.Len(t, f.watched, 1)
	require.Empty(t, f.Violations())
	child.Release()
}

// Where no way is available, the error names every refusal.
// contract: S5
func TestProcess_NoWay(t *testing.T) {
	guard(t, "S5, R9: without any way the error is errors.ErrUnsupported, with the reasons")
	defer epore.ProcessWaysFrom(2)()
	p := open(t)
	_, err := epore.NewProcess(p.Registry(), 1, find(t, os.Getpid()))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.LessOrEqual(t, p.Slots(), 1, "what was tried is free again")
}
