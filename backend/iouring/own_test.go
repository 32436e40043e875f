//go:build linux

package iouring

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

// What only this backend can get wrong.

// eachKind runs a test on every kind of ring, waits on one thread included.
func eachKind(t *testing.T, rule string, run func(t *testing.T, u *Uring)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			stop := backendtest.Watchdog(t, rule)
			defer stop()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			run(t, opened(t, k))
		})
	}
}

func opened(t testing.TB, k kind) *Uring {
	u, err := k.open()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = u.Close() })
	return u
}

// some waits until there are events, on this thread.
func some(t *testing.T, u *Uring, dst []backend.Event) []backend.Event {
	t.Helper()
	for range 1000 {
		n, err := u.Wait(dst, time.Second)
		require.NoError(t, err)
		if n > 0 {
			return dst[:n]
		}
	}
	t.Fatal("no event came")
	return nil
}

func ready(t *testing.T, u *Uring) []backend.Event {
	t.Helper()
	dst := make([]backend.Event, 64)
	n, err := u.Wait(dst, 0)
	require.NoError(t, err)
	return dst[:n]
}

// Taken over by a registration of its number, the eventfd would wake nobody.
func TestItsOwnDescriptorsAreNotForOthers(t *testing.T) {
	eachKind(t, "E3", func(t *testing.T, u *Uring) {
		r, _ := fixture.Pipe(t)
		require.NoError(t, u.Add(r.Handle(), 1, backend.Readable)) // now there is a book
		book := 0
		for !u.ids.Owns(backend.Handle(book)) {
			book++
		}
		for _, fd := range []int{u.wakefd, u.ring.fd, book} {
			h := backend.Handle(fd)
			require.ErrorIs(t, u.Add(h, 2, backend.Readable), unix.EINVAL)
			require.ErrorIs(t, u.Modify(h, 2, backend.Readable), unix.ENOENT)
			require.ErrorIs(t, u.Delete(h), unix.ENOENT)
		}
		require.NoError(t, u.Wake())
		n, err := u.Wait(make([]backend.Event, 1), -1)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestOpenTwice(t *testing.T) {
	u := opened(t, kind{})
	fd := u.ring.fd
	require.ErrorIs(t, u.Open(backend.Config{}), unix.EBUSY)
	require.Equal(t, fd, u.ring.fd)
	require.NoError(t, u.Close())
	require.NoError(t, u.Close(), "again")
	require.ErrorIs(t, u.Open(backend.Config{}), unix.EBUSY, "it knows what is over")
}

// The core never does that; others might, and the rings are not there.
func TestNotOpen(t *testing.T) {
	closed := opened(t, kind{})
	require.NoError(t, closed.Close())
	for _, u := range []*Uring{New(), closed} {
		_, err := u.Wait(make([]backend.Event, 1), 0)
		for _, err := range []error{err, u.Add(0, 1, backend.Readable), u.Modify(0, 1, backend.Readable), u.Delete(0), u.Flush(), u.Wake()} {
			require.ErrorIs(t, err, unix.EBADF)
		}
		require.Equal(t, -1, u.Descriptor())
		require.Equal(t, "io_uring", u.Name())
		require.False(t, u.Capabilities().Interests.Has(backend.Exclusive))
		require.NoError(t, u.Close())
	}
}

func TestEntriesOutOfRange(t *testing.T) {
	for _, n := range []uint32{0, maxEntries + 1, 1<<32 - 1} {
		err := New(WithEntries(n), nil).Open(backend.Config{})
		require.ErrorIs(t, err, fs.ErrInvalid)
		require.ErrorContains(t, err, "WithEntries")
	}
}

// The owned gear: a wait elsewhere is an error and disturbs nothing.
func TestWaitingOnAnotherThread(t *testing.T) {
	stop := backendtest.Watchdog(t, "a Poll from another thread is a clear error")
	defer stop()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	u := opened(t, kind{blocking: true})
	if !u.Capabilities().OneThread {
		t.Skip("this kernel has no rings of one thread")
	}
	a, b := fixture.Pair(t)
	later, _ := fixture.Pair(t)
	require.NoError(t, u.Add(a.Handle(), 1, backend.Readable|backend.Edge))
	require.Empty(t, ready(t, u)) // the ring is this thread's
	b.Write("x")
	fixture.OnEndingThread(t, func() {
		for _, timeout := range []time.Duration{0, time.Microsecond, time.Hour, -1} {
			n, err := u.Wait(make([]backend.Event, 4), timeout)
			if n != 0 || !errors.Is(err, backend.ErrWrongThread) {
				t.Errorf("Wait(%v) on another thread: %d, %v", timeout, n, err)
			}
		}
		if err := u.Add(later.Handle(), 2, backend.Writable); err != nil {
			t.Errorf("changes may come from there: %v", err)
		}
	})
	seen := map[backend.Key]backend.Readiness{}
	for _, ev := range some(t, u, make([]backend.Event, 1)) { // the other one is left over
		seen[ev.Key] = ev.Ready
	}
	fixture.OnEndingThread(t, func() {
		n, err := u.Wait(make([]backend.Event, 4), 0)
		if n != 0 || !errors.Is(err, backend.ErrWrongThread) {
			t.Errorf("with something left over: %d, %v", n, err)
		}
	})
	for len(seen) < 2 {
		for _, ev := range some(t, u, make([]backend.Event, 4)) {
			seen[ev.Key] = ev.Ready
		}
	}
	require.Equal(t, map[backend.Key]backend.Readiness{1: backend.ReadyReadable, 2: backend.ReadyWritable}, seen)
}

// A Delete beside an owner that sleeps makes it come back for that; it must not
// return from the Wait without.
func TestDeleteBesideASleepingOwner(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			stop := backendtest.Watchdog(t, "R14, also if the owner handles events for long then")
			defer stop()
			u := opened(t, k)
			returned, goOn := make(chan error), make(chan struct{})
			go func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				for range goOn {
					_, err := u.Wait(make([]backend.Event, 4), -1)
					returned <- err
				}
			}()
			defer close(goOn)
			for range 50 {
				a, b := fixture.Pair(t)
				require.NoError(t, u.Add(a.Handle(), 1, backend.Readable))
				goOn <- struct{}{}
				for asleep := false; !asleep; runtime.Gosched() {
					select {
					case err := <-returned: // early, as it may
						require.NoError(t, err)
						goOn <- struct{}{}
					default:
					}
					u.mu.Lock()
					asleep = u.asleep && len(u.arms) == 0 && u.ring.pending() == 0
					u.mu.Unlock()
				}
				require.NoError(t, u.Delete(a.Handle()))
				a.Close()
				if u.owned {
					_, ended := b.Drain()
					require.True(t, ended, "the other end sees it at once")
				} else {
					require.NoError(t, u.Wake())
				}
				require.NoError(t, <-returned)
				b.AwaitReadable() // while nobody waits
				b.Close()
			}
		})
	}
}

// A Delete by the owner lets the file go also when the ring is full of what was
// not collected yet.
func TestDeleteBehindAFullRing(t *testing.T) {
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
		n, err := u.Wait(make([]backend.Event, 2*others), -1) // woken, with all of them
		require.NoError(t, err)
		require.Equal(t, others, n)
	})
}

// A Wake that a Delete came across is not lost.
func TestADeleteKeepsAWake(t *testing.T) {
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

// What did not fit into the last batch, and is registered anew, comes once.
func TestLeftOverAndRegisteredAgain(t *testing.T) {
	for _, mode := range []backend.Interest{0, backend.Edge, backend.OneShot} {
		eachKind(t, "M3: one event", func(t *testing.T, u *Uring) {
			var heres []*fixture.End
			for i := range 4 {
				here, there := fixture.Pair(t)
				heres = append(heres, here)
				there.Write("x")
				require.NoError(t, u.Add(here.Handle(), backend.Key(i+1), backend.Readable|mode))
			}
			first := some(t, u, make([]backend.Event, 1))
			require.Len(t, first, 1)
			for i, here := range heres {
				require.NoError(t, u.Delete(here.Handle()))
				require.NoError(t, u.Add(here.Handle(), backend.Key(i+11), backend.Readable|backend.OneShot))
			}
			seen := make(map[backend.Key]int)
			for range 3 {
				for _, ev := range ready(t, u) {
					seen[ev.Key]++
				}
			}
			require.Equal(t, map[backend.Key]int{11: 1, 12: 1, 13: 1, 14: 1}, seen)
		})
	}
}

// A number whose owner cannot be watched has lost its registration, and the
// file that was there before is let go.
func TestANumberGoesToAFile(t *testing.T) {
	eachKind(t, "R4, R7: exact", func(t *testing.T, u *Uring) {
		for name, change := range map[string]func(h backend.Handle) error{
			"Modify": func(h backend.Handle) error { return u.Modify(h, 2, backend.Readable) },
			"Delete": u.Delete,
			"Add":    func(h backend.Handle) error { return u.Add(h, 2, backend.Readable) },
		} {
			want := error(unix.ENOENT)
			if name == "Add" {
				want = backend.ErrNotPollable
			}
			r, w := fixture.Pipe(t)
			require.NoError(t, u.Add(r.Handle(), 1, backend.Readable))
			require.Empty(t, ready(t, u))
			number := r.FD
			r.Close()
			file := fixture.RegularFile(t).MoveTo(number)
			require.ErrorIs(t, change(file.Handle()), want, name)
			_, err := w.TryWrite([]byte("x"))
			require.ErrorIs(t, err, unix.EPIPE, "nobody holds the reading end: %s", name)
			require.ErrorIs(t, u.Delete(file.Handle()), unix.ENOENT, name)
			require.Empty(t, ready(t, u))
			file.Close()
			require.ErrorIs(t, u.Delete(file.Handle()), unix.EBADF)
		}
	})
}

// Some files say POLLPRI to the first who asks, and then no more.
func TestPriorityOfAFileThatSaysItOnce(t *testing.T) {
	for _, mode := range []backend.Interest{0, backend.Edge, backend.OneShot} {
		eachKind(t, "M10", func(t *testing.T, u *Uring) {
			fd, err := unix.Open("/proc/self/mounts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			require.NoError(t, err)
			defer unix.Close(fd)
			dir := t.TempDir()
			require.NoError(t, u.Add(backend.Handle(fd), 1, backend.Priority|mode))
			require.Empty(t, ready(t, u))
			if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
				t.Skipf("the mounts cannot be changed here: %v", err)
			}
			defer func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
			require.True(t, some(t, u, make([]backend.Event, 4))[0].Ready.Has(backend.ReadyPriority))
		})
	}
}

// When the kernel had no memory for completions, nobody knows which requests
// have ended: all are made again, and nothing is lost.
func TestDroppedCompletions(t *testing.T) {
	eachKind(t, "E4: registrations stay, and their events", func(t *testing.T, u *Uring) {
		var heres, theres []*fixture.End
		for i, mode := range []backend.Interest{0, backend.Edge, backend.OneShot} {
			here, there := fixture.Pair(t)
			heres, theres = append(heres, here), append(theres, there)
			require.NoError(t, u.Add(here.Handle(), backend.Key(i+1), backend.Readable|mode))
		}
		require.Empty(t, ready(t, u))
		for _, there := range theres {
			there.Write("x")
		}
		require.NoError(t, u.Wake())
		u.mu.Lock()
		if u.owned { // its requests complete when it enters
			_, errno := u.ring.finish()
			require.Zero(t, errno)
		}
		require.Greater(t, u.ring.tail()-u.ring.head(), uint32(3))
		for i := u.ring.head(); i != u.ring.tail(); i++ { // lost, those of single requests with them
			u.ring.at(i).userData = cancelMark
		}
		require.NoError(t, u.refused(unix.EBADR))
		require.True(t, u.wakeArms, "the eventfd's, too")
		u.mu.Unlock()
		seen := make(map[backend.Key]bool)
		for len(seen) < len(heres) {
			for _, ev := range some(t, u, make([]backend.Event, 4)) {
				seen[ev.Key] = true
				heres[ev.Key-1].Drain()
			}
		}
		require.Empty(t, ready(t, u))
		require.NoError(t, u.Wake())
		n, err := u.Wait(make([]backend.Event, 4), -1)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

// The shared gear: requests belong to the thread that handed them in, and end
// with it. Here all of them do, the eventfd's included, time and again.
func TestThreadsThatEnd(t *testing.T) {
	for _, k := range kinds {
		if k.blocking {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			stop := backendtest.Watchdog(t, "a thread that ends takes no registration with it")
			defer stop()
			const sources = 20
			var u *Uring
			var err error
			fixture.OnEndingThread(t, func() { u, err = k.open() })
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip(err)
			}
			require.NoError(t, err)
			t.Cleanup(func() { _ = u.Close() })
			var heres, theres []*fixture.End
			modes := []backend.Interest{0, backend.Edge, backend.OneShot}
			for i := range sources {
				here, there := fixture.Pair(t)
				heres, theres = append(heres, here), append(theres, there)
				require.NoError(t, u.Add(here.Handle(), backend.Key(i+1), backend.Readable|modes[i%3]))
			}
			for round := range 5 {
				fixture.OnEndingThread(t, func() {
					if n, err := u.Wait(make([]backend.Event, 4), 0); n != 0 || err != nil {
						t.Errorf("%d, %v", n, err)
					}
				})
				if round%2 == 1 { // now they end while somebody waits
					ended := make(chan struct{})
					fixture.OnEndingThread(t, func() {
						_, _ = u.Wait(make([]backend.Event, 4), 0)
						go func() {
							defer close(ended)
							if n, err := u.Wait(make([]backend.Event, 4), -1); n != 0 || err != nil {
								t.Errorf("%d, %v", n, err)
							}
						}()
					})
					require.NoError(t, u.Wake())
					<-ended
				}
				for _, there := range theres {
					there.Write("x")
				}
				seen := make(map[backend.Key]bool)
				dst := make([]backend.Event, 4)
				for len(seen) < sources {
					for _, ev := range some(t, u, dst) {
						seen[ev.Key] = true
						heres[ev.Key-1].Drain()
						if ev.Key%3 == 0 {
							require.NoError(t, u.Modify(heres[ev.Key-1].Handle(), ev.Key, backend.Readable|backend.OneShot))
						}
					}
				}
			}
		})
	}
}

// A parked waiter does not come for what is queued: from Flush on, changes must
// reach the kernel at once, and make the ring readable.
func TestSettledQueuesTellTheirKernelAtOnce(t *testing.T) {
	u := opened(t, kind{})
	before, b := fixture.Pair(t)
	b.Write("x")
	readable := func() bool {
		fds := []unix.PollFd{{Fd: int32(u.Descriptor()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		require.NoError(t, err)
		return n == 1
	}
	require.Empty(t, ready(t, u))
	require.NoError(t, u.Add(before.Handle(), 1, backend.Readable))
	require.False(t, readable(), "with the next wait")
	require.NoError(t, u.Flush())
	require.True(t, readable(), "what is queued already")
	require.Len(t, ready(t, u), 1)
	before.Drain()
	require.Empty(t, ready(t, u))
	require.NoError(t, u.Flush())
	after, b := fixture.Pair(t)
	b.Write("x")
	require.False(t, readable())
	require.NoError(t, u.Add(after.Handle(), 2, backend.Readable))
	require.True(t, readable(), "what comes later")
	require.NoError(t, u.Modify(after.Handle(), 3, backend.Readable))
	require.Equal(t, []backend.Event{{Key: 3, Ready: backend.ReadyReadable}}, ready(t, u))
	awake, b := fixture.Pair(t)
	b.Write("x")
	require.NoError(t, u.Add(awake.Handle(), 4, backend.Readable))
	require.False(t, readable(), "who is awake comes for it")
}

// What is over by the time of the Wait is not reported, and what comes then is.
func TestWhatIsOverIsNotReported(t *testing.T) {
	for _, mode := range []backend.Interest{0, backend.OneShot} {
		eachKind(t, "M1, M3, M9", func(t *testing.T, u *Uring) {
			a, b := fixture.Pair(t)
			require.NoError(t, u.Add(a.Handle(), 1, backend.Readable|mode))
			for range 3 {
				require.Empty(t, ready(t, u))
				b.Write("x") // on a shared ring the request completes here, on an owned one with the Wait
				a.Drain()
				require.Empty(t, ready(t, u))
			}
			b.Write("x")
			require.Len(t, some(t, u, make([]backend.Event, 4)), 1)
		})
	}
}

// Ordinary data completes a request for urgent data, which must not be believed.
func TestOrdinaryDataIsNotUrgent(t *testing.T) {
	for _, mode := range []backend.Interest{0, backend.Edge, backend.OneShot} {
		eachKind(t, "M10", func(t *testing.T, u *Uring) {
			a, b := fixture.TCPPair(t)
			require.NoError(t, u.Add(a.Handle(), 1, backend.Priority|mode))
			require.Empty(t, ready(t, u))
			for range 3 {
				for range 3 { // so that no event is in doubt for other reasons
					require.Empty(t, ready(t, u))
				}
				b.Write("x")
				a.AwaitReadable()
				require.Empty(t, ready(t, u))
			}
			b.SendUrgent('!')
			require.Equal(t, backend.ReadyPriority, some(t, u, make([]backend.Event, 4))[0].Ready)
		})
	}
}

// A request for edges stands in for a single one while the peer half-closed; it
// must not be left in the kernel.
func TestTheStandInIsCancelled(t *testing.T) {
	eachKind(t, "E4: nothing left behind", func(t *testing.T, u *Uring) {
		a, b := fixture.Pair(t)
		require.NoError(t, u.Add(a.Handle(), 1, backend.Writable))
		for range 20 {
			a.Fill()
			require.Empty(t, ready(t, u))
			b.ShutdownWrite()
			require.Empty(t, ready(t, u))
			b.Drain()
			require.Len(t, some(t, u, make([]backend.Event, 4)), 1)
		}
		require.NoError(t, u.Delete(a.Handle()))
		require.Empty(t, ready(t, u))
		require.LessOrEqual(t, requests(t, u), 1, "the eventfd's")
	})
}

// A pipe's number that was closed and came back by dup2 may be registered again:
// the book remembers it as long as the pipe lives.
func TestAPipeComesBackToItsNumber(t *testing.T) {
	eachKind(t, "R7: no false fs.ErrExist", func(t *testing.T, u *Uring) {
		r, w := fixture.Pipe(t)
		kept := r.Dup()
		require.NoError(t, u.Add(r.Handle(), 1, backend.Readable))
		require.Empty(t, ready(t, u))
		number := r.FD
		r.Close()
		a, _ := fixture.PairAt(t, number)
		require.NoError(t, u.Add(a.Handle(), 2, backend.Readable))
		require.NoError(t, u.Delete(a.Handle()))
		a.Close()
		back := kept.MoveTo(number)
		require.NoError(t, u.Add(back.Handle(), 3, backend.Readable))
		require.ErrorIs(t, u.Add(back.Handle(), 4, backend.Readable), unix.EEXIST)
		w.Write("x")
		require.Equal(t, []backend.Event{{Key: 3, Ready: backend.ReadyReadable}}, some(t, u, make([]backend.Event, 4)))
	})
}

// A request for edges that ends again and again is given up, or, when completions
// spilled over, put off until the next Wait; never lost.
func TestRequestsThatEndAgainAndAgain(t *testing.T) {
	for _, spilled := range []bool{false, true} {
		u := opened(t, kind{})
		a, b := fixture.Pair(t)
		require.NoError(t, u.Add(a.Handle(), 1, backend.Readable|backend.Edge))
		require.Empty(t, ready(t, u))
		rec := u.records.Get(uintptr(a.FD))
		u.mu.Lock()
		u.spilled = spilled
		rec.round = u.round
		rec.state, u.cancels = unknown, append(u.cancels, rec.userData(uint32(a.FD)))
		for range 20 {
			if rec.state = armed; len(u.later) == 0 {
				u.again(uint32(a.FD), rec)
			}
		}
		put := len(u.later)
		u.mu.Unlock()
		if !spilled {
			require.Equal(t, shot, rec.state)
			require.Zero(t, put)
			continue
		}
		require.Equal(t, 1, put)
		u.mu.Lock()
		rec.state, rec.inArms, u.arms = queued, false, nil // what again armed meanwhile
		u.mu.Unlock()
		require.Empty(t, ready(t, u))
		b.Write("x")
		require.Len(t, some(t, u, make([]backend.Event, 4)), 1)
	}
}

// A file that has nothing to wait for, and nothing ready: the kernel refuses the
// request. It is registered all the same, and will not be heard of, as on epoll.
func TestNothingToWaitFor(t *testing.T) {
	eachKind(t, "R8, M1", func(t *testing.T, u *Uring) {
		a, b := fixture.Pair(t)
		require.NoError(t, u.Add(a.Handle(), 1, backend.Readable))
		require.Empty(t, ready(t, u))
		fd := uint32(a.FD)
		u.mu.Lock()
		rec := u.records.Get(uintptr(fd))
		u.cancels = append(u.cancels, rec.userData(fd))
		u.ended(fd, rec, unix.EINVAL)
		u.mu.Unlock()
		b.Write("x")
		require.Empty(t, ready(t, u))
		require.ErrorIs(t, u.Add(a.Handle(), 2, backend.Readable), unix.EEXIST)
		require.NoError(t, u.Modify(a.Handle(), 3, backend.Readable))
		require.Len(t, some(t, u, make([]backend.Event, 4)), 1)
	})
}

// A timeout too long for the kernel is cut, not overflowed: it sleeps.
func TestLongestWait(t *testing.T) {
	r := newRing(t, 1, plainGear)
	for _, timeout := range []time.Duration{1<<63 - 1, longestWait, longestWait + 1} {
		done := make(chan unix.Errno)
		go func() {
			errno := unix.EINTR
			for errno == unix.EINTR { // the runtime signals its threads
				_, errno = r.wait(0, timeout)
			}
			done <- errno
		}()
		select {
		case <-done:
			t.Fatalf("a wait of %v ended at once", timeout)
		case <-time.After(5 * time.Millisecond):
		}
		r.commitNothing()
		r.submit(t)
		require.Zero(t, <-done)
		r.completed(t)
	}
}

// commitNothing hands in a request that completes at once.
func (r *ring) commitNothing() {
	r.next().userData = 1
	r.commit()
}

// After Close, the sources are the caller's alone.
func TestCloseLetsSourcesGo(t *testing.T) {
	eachKind(t, "P9: when Close returns, the queue is closed", func(t *testing.T, u *Uring) {
		a, b := fixture.Pair(t)
		require.NoError(t, u.Add(a.Handle(), 1, backend.Readable))
		require.Empty(t, ready(t, u))
		require.NoError(t, u.Close())
		a.Close()
		_, ended := b.Drain()
		require.True(t, ended, "the other end sees it at once")
	})
}

// requests counts the poll requests in the kernel, by /proc/self/fdinfo.
func requests(t *testing.T, u *Uring) (n int) {
	f, err := os.Open("/proc/self/fdinfo/" + strconv.Itoa(u.ring.fd))
	require.NoError(t, err)
	defer f.Close()
	in := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "PollList:":
			in = true
		case in && strings.HasPrefix(line, "  op="):
			n++
		case in && !strings.HasPrefix(line, " "):
			in = false
		}
	}
	return n
}

// The completion queue overflows when more happens than it holds. The kernel
// keeps the rest, and ends requests for many events: nothing may be lost, and
// nothing come twice.
func TestOverflow(t *testing.T) {
	for _, k := range kinds {
		if k.entries == 0 {
			continue
		}
		for _, mode := range []backend.Interest{0, backend.Edge, backend.OneShot} {
			t.Run(k.name+" "+mode.String(), func(t *testing.T) {
				stop := backendtest.Watchdog(t, "100,000 simultaneous events through a small ring, none lost, none twice")
				defer stop()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				overflow(t, opened(t, k), mode)
			})
		}
	}
}

func overflow(t *testing.T, u *Uring, mode backend.Interest) {
	sources, wanted := 1000, 5000
	if backendtest.Long() {
		sources, wanted = 9000, 100_000
	}
	sources = fixture.Affordable(t, sources)
	ends, closeAll := fixture.ManyPairs(t, sources)
	defer closeAll()
	for i, e := range ends {
		require.NoError(t, u.Add(backend.Handle(e[0]), backend.Key(i+1), backend.Readable|mode))
	}
	require.Empty(t, ready(t, u))
	overflowed := false
	events := 0
	dst := make([]backend.Event, 300)
	buf := make([]byte, 8)
	for events < wanted {
		for _, e := range ends {
			_, err := unix.Write(e[1], []byte("x"))
			require.NoError(t, err)
		}
		if u.owned { // its requests complete when it enters
			_, errno := u.ring.finish()
			require.Zero(t, errno)
		}
		overflowed = overflowed || u.ring.overflowed()
		seen := make([]bool, sources)
		for left := sources; left > 0; {
			n, err := u.Wait(dst, time.Minute)
			require.NoError(t, err)
			for _, ev := range dst[:n] {
				i := int(ev.Key) - 1
				require.False(t, seen[i], "%d came twice", i)
				seen[i] = true
				left--
				if mode == 0 { // or it would come again, as it should
					_, err := unix.Read(ends[i][0], buf)
					require.NoError(t, err)
				}
			}
		}
		require.Empty(t, ready(t, u), "all have come, and nothing changed")
		for i, e := range ends {
			if mode != 0 {
				_, err := unix.Read(e[0], buf)
				require.NoError(t, err)
			}
			if mode == backend.OneShot {
				require.NoError(t, u.Modify(backend.Handle(e[0]), backend.Key(i+1), backend.Readable|mode))
			}
		}
		require.Empty(t, ready(t, u), "all are read")
		events += sources
	}
	require.True(t, overflowed, "or this test would see nothing")
	t.Logf("reached %d events of 100,000, %d at once through %d completions", events, sources, u.ring.cqEntries)
}

// Eight goroutines register, make ready, and deregister, while one waits. What
// they leave registered for its event must get it; in the end the kernel has no
// request left but the eventfd's, and the memory is as before.
func TestRegistrationsWithoutEnd(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			stop := backendtest.Watchdog(t, "1,000,000 events with 8 goroutines that register and deregister, nothing lost, nothing left behind")
			defer stop()
			withoutEnd(t, opened(t, k))
		})
	}
}

func withoutEnd(t *testing.T, u *Uring) {
	wanted := int64(4000)
	if backendtest.Long() {
		wanted = 1_000_000
	}
	const goroutines, each = 8, 4
	var changes sync.Mutex // the core's promise: one change at a time
	change := func(do func() error) {
		changes.Lock()
		defer changes.Unlock()
		if err := do(); err != nil {
			t.Errorf("%v", err)
		}
	}
	var events atomic.Int64
	var over atomic.Bool
	var came [goroutines*each + 1]chan struct{}
	var heres, theres [goroutines * each]*fixture.End
	for i := range heres {
		heres[i], theres[i] = fixture.Pair(t)
		came[i+1] = make(chan struct{}, 1)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		dst := make([]backend.Event, 16)
		timeout := time.Duration(-1)
		for last := false; !last; {
			if over.Load() {
				timeout, last = 0, true
			}
			n, err := u.Wait(dst, timeout)
			if err != nil {
				t.Errorf("Wait: %v", err)
			}
			for _, ev := range dst[:n] {
				events.Add(1)
				select {
				case came[ev.Key] <- struct{}{}:
				default:
				}
			}
		}
	})
	run := func(until int64) {
		var working sync.WaitGroup
		for g := range goroutines {
			working.Go(func() {
				modes := []backend.Interest{backend.Edge, 0, backend.OneShot}
				buf := make([]byte, 8)
				for round := 0; events.Load() < until; round++ {
					for i := g * each; i < (g+1)*each; i++ {
						select { // a second one of the last round
						case <-came[i+1]:
						default:
						}
						change(func() error {
							return u.Add(heres[i].Handle(), backend.Key(i+1), backend.Readable|modes[(round+i)%3])
						})
					}
					for i := g * each; i < (g+1)*each; i++ {
						_, _ = theres[i].TryWrite([]byte("x"))
					}
					for i := g * each; i < (g+1)*each; i++ {
						<-came[i+1] // or the watchdog says that it was lost
						_, _ = heres[i].TryRead(buf)
						change(func() error { return u.Delete(heres[i].Handle()) })
					}
				}
			})
		}
		working.Wait()
	}
	run(wanted / 10)
	before := fixture.Heap()
	run(wanted)
	grown := fixture.Heap() - before
	over.Store(true)
	require.NoError(t, u.Wake())
	waiting.Wait()
	require.Less(t, grown, int64(64<<10), "bytes of the heap")
	require.Equal(t, 1, requests(t, u), "in the kernel, the eventfd's")
	t.Logf("reached %d of 1,000,000 events, the heap grew by %d bytes", events.Load(), grown)
}
