//go:build linux

package iouring

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

// Who may do what: only the owner waits, and only the owner can have the kernel
// let go of a file.

// elsewhere requires that a Wait on another thread is refused.
func elsewhere(t *testing.T, u *Uring) {
	t.Helper()
	fixture.OnEndingThread(t, func() {
		for _, timeout := range []time.Duration{0, time.Microsecond, time.Hour, -1} {
			n, err := u.Wait(make([]backend.Event, 4), timeout)
			if n != 0 || !errors.Is(err, backend.ErrWrongThread) {
				t.Errorf("Wait(%v) on another thread: %d, %v", timeout, n, err)
			}
		}
	})
}

// contract: P11
func TestWait_WrongThread(t *testing.T) {
	eachKind(t, "P11: a Wait on another thread is ErrWrongThread, and disturbs nothing", func(t *testing.T, u *Uring) {
		a, b := fixture.Pair(t)
		level, c := fixture.Pair(t)
		later, _ := fixture.Pair(t)
		require.NoError(t, u.Add(a.Handle(), 1, backend.Readable|backend.Edge))
		require.NoError(t, u.Add(level.Handle(), 2, backend.Readable))
		require.Empty(t, ready(t, u)) // the ring is this thread's
		elsewhere(t, u)               // with nothing to say
		c.Write("x")
		require.Len(t, some(t, u, make([]backend.Event, 1)), 1)
		elsewhere(t, u) // with something to ask about
		b.Write("x")
		elsewhere(t, u) // with something to collect
		fixture.OnEndingThread(t, func() {
			if err := u.Add(later.Handle(), 3, backend.Writable); err != nil {
				t.Errorf("changes may come from there: %v", err)
			}
		})
		elsewhere(t, u) // with something to submit
		seen := map[backend.Key]backend.Readiness{}
		for len(seen) < 3 {
			for _, ev := range some(t, u, make([]backend.Event, 1)) {
				seen[ev.Key] = ev.Ready
			}
			elsewhere(t, u) // with something left over
		}
		require.Equal(t, map[backend.Key]backend.Readiness{
			1: backend.ReadyReadable, 2: backend.ReadyReadable, 3: backend.ReadyWritable,
		}, seen)
	})
}

// When the owner's thread has ended, nobody can wait any more; changes and Close
// do no harm.
// contract: P11
func TestWait_OwnerHasEnded(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			stop := backendtest.Watchdog(t, "P11: ErrWrongThread, for good")
			defer stop()
			u, closeNow := opened(t, k)
			a, b := fixture.Pair(t)
			c, _ := fixture.Pair(t)
			require.NoError(t, u.Add(a.Handle(), 1, backend.Readable))
			fixture.OnEndingThread(t, func() {
				if n, err := u.Wait(make([]backend.Event, 4), 0); n != 0 || err != nil {
					t.Errorf("%d, %v", n, err)
				}
			})
			b.Write("x")
			elsewhere(t, u)
			require.NoError(t, u.Add(c.Handle(), 2, backend.Readable))
			require.NoError(t, u.Delete(a.Handle()))
			closeNow()
		})
	}
}

// waiter is a thread that waits without a timeout whenever begin asks it to.
type waiter struct {
	u        *Uring
	begun    chan struct{}
	returned chan int // how many events
}

func newWaiter(t *testing.T, u *Uring) *waiter {
	w := &waiter{u: u, begun: make(chan struct{}), returned: make(chan int)}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(w.returned)
		dst := make([]backend.Event, 4)
		for range w.begun {
			n, err := u.Wait(dst, -1)
			if err != nil {
				t.Errorf("Wait: %v", err)
			}
			w.returned <- n
		}
	}()
	t.Cleanup(func() { close(w.begun); <-w.returned })
	return w
}

// begin begins a Wait.
func (w *waiter) begin() { w.begun <- struct{}{} }

// sleep begins a Wait that has nothing to report, and returns when it sleeps.
func (w *waiter) sleep() {
	w.begin()
	for asleep := false; !asleep; runtime.Gosched() {
		w.u.mu.Lock()
		asleep = w.u.asleep && !w.u.called
		w.u.mu.Unlock()
	}
}

// A change while the owner sleeps has the owner come for it. That does not end its
// Wait, and a Delete has let go of the file when it returns, however many follow
// each other.
// contract: R14
func TestDelete_WhileTheOwnerSleeps(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			stop := backendtest.Watchdog(t, "R14: Deregister while a Poll waits")
			defer stop()
			u, _ := opened(t, k)
			w := newWaiter(t, u)
			w.sleep()
			for range 50 {
				var heres, theres [3]*fixture.End
				for i := range heres {
					heres[i], theres[i] = fixture.Pair(t)
					require.NoError(t, u.Add(heres[i].Handle(), backend.Key(i+1), backend.Readable))
				}
				for i, here := range heres {
					require.NoError(t, u.Delete(here.Handle()))
					here.Close()
					_, ended := theres[i].Drain()
					require.True(t, ended, "the other end sees it at once")
				}
			}
			select {
			case <-w.returned:
				t.Fatal("the Wait has ended")
			default:
			}
			require.NoError(t, u.Wake())
			require.Zero(t, <-w.returned)
		})
	}
}

// A Delete by the owner lets go of the file even if the ring is full of what was
// not collected yet.
// contract: R14
func TestDelete_BehindAFullRing(t *testing.T) {
	eachKind(t, "R14", func(t *testing.T, u *Uring) {
		others := fixture.Affordable(t, 300)
		t.Logf("reached %d of 300 events that are not collected", others)
		ends, closeAll := fixture.ManyPairs(t, others)
		defer closeAll()
		for i, e := range ends {
			require.NoError(t, u.Add(backend.Handle(e[0]), backend.Key(i+1), backend.Readable|backend.Edge))
		}
		a, b := fixture.TCPPair(t)
		require.NoError(t, u.Add(a.Handle(), 1000, backend.Readable))
		require.Empty(t, ready(t, u))
		for _, e := range ends {
			_, err := unix.Write(e[1], []byte("x"))
			require.NoError(t, err)
		}
		require.NoError(t, u.Wake())
		require.NoError(t, u.Delete(a.Handle()))
		a.Close()
		b.AwaitReadable()
		n, err := u.Wait(make([]backend.Event, 2*others), -1) // with all of them
		require.NoError(t, err)
		require.Equal(t, others, n)
	})
}

// POLL_REMOVE gives up on a request that is about to complete. The request must
// be gone all the same.
// contract: R14
func TestDelete_OfARequestAboutToComplete(t *testing.T) {
	eachMode(t, "R14, E4: nothing left behind", func(t *testing.T, u *Uring, mode backend.Interest) {
		for range 20 {
			a, b := fixture.Pair(t)
			require.NoError(t, u.Add(a.Handle(), 1, backend.Readable|mode))
			require.Empty(t, ready(t, u))
			b.Write("x")
			require.NoError(t, u.Delete(a.Handle()))
			require.LessOrEqual(t, requests(t, u), 1, "the eventfd's")
			a.Close()
			_, err := b.TryWrite([]byte("x"))
			require.ErrorIs(t, err, unix.EPIPE, "the other end sees it at once")
			b.Close()
			require.Empty(t, ready(t, u))
		}
	})
}

// A Delete that comes after a Wake, and collects it, does not lose it.
func TestDelete_KeepsAWake(t *testing.T) {
	eachKind(t, "Wake ends the Wait in progress, or else the next one that would block", func(t *testing.T, u *Uring) {
		a, _ := fixture.Pair(t)
		require.NoError(t, u.Add(a.Handle(), 1, backend.Readable))
		require.Empty(t, ready(t, u))
		require.NoError(t, u.Wake())
		require.NoError(t, u.Delete(a.Handle()))
		n, err := u.Wait(make([]backend.Event, 4), -1)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

// Wakes and calls for a change use one eventfd, and neither hides the other.
func TestWake_AndChanges(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			stop := backendtest.Watchdog(t, "Wake ends the Wait in progress, or else the next one that would block")
			defer stop()
			u, _ := opened(t, k)
			w := newWaiter(t, u)
			a, b := fixture.Pair(t)
			for range 200 {
				w.sleep()
				require.NoError(t, u.Add(a.Handle(), 1, backend.Readable))
				require.NoError(t, u.Wake())
				require.Zero(t, <-w.returned, "the Wait in progress")
				require.NoError(t, u.Delete(a.Handle()))
				require.NoError(t, u.Wake())
				w.begin()
				require.Zero(t, <-w.returned, "the next one")
			}
			w.sleep()
			require.NoError(t, u.Add(a.Handle(), 2, backend.Readable))
			b.Write("x")
			require.Equal(t, 1, <-w.returned)
		})
	}
}

// After Close, the numbers of its descriptors may have other owners, and the rings are no
// longer mapped. A late call does no harm.
// contract: P9
func TestClose_LateCalls(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			u, closeNow := opened(t, k)
			source, _ := fixture.Pair(t)
			require.NoError(t, u.Add(source.Handle(), 1, backend.Readable))
			require.Empty(t, ready(t, u))
			number := u.wakefd
			closeNow()
			a, b := fixture.PairAt(t, number)
			require.ErrorIs(t, u.Wake(), unix.EBADF)
			require.ErrorIs(t, u.Add(source.Handle(), 1, backend.Readable), unix.EBADF)
			require.ErrorIs(t, u.Modify(source.Handle(), 1, backend.Readable), unix.EBADF)
			require.ErrorIs(t, u.Delete(source.Handle()), unix.EBADF)
			_, err := u.Wait(make([]backend.Event, 1), 0)
			require.ErrorIs(t, err, unix.EBADF)
			n, err := b.TryRead(make([]byte, 1))
			require.True(t, fixture.WouldBlock(err), "%d, %v: the wake went to %v", n, err, a)
		})
	}
}

// After Close, the sources are the caller's alone.
// contract: P9
func TestClose_LetsSourcesGo(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			u, closeNow := opened(t, k)
			a, b := fixture.Pair(t)
			require.NoError(t, u.Add(a.Handle(), 1, backend.Readable))
			require.Empty(t, ready(t, u))
			closeNow()
			a.Close()
			_, ended := b.Drain()
			require.True(t, ended, "P9: the other end sees it at once")
		})
	}
}
