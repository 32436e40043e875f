//go:build unix

package kqueue

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/kq"
)

// What only this backend can get wrong, on every kernel that there is here: the
// system's own, or simulated ones.

// each runs a test on an open queue of each kernel.
func each(t *testing.T, run func(t *testing.T, q *Kqueue)) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			q := NewOn(kernel())
			require.NoError(t, q.Open(backend.Config{}))
			t.Cleanup(func() { _ = q.Close() })
			run(t, q)
		})
	}
}

// wait is one Wait; interruptions are borne as in the core.
func wait(t *testing.T, q *Kqueue, room int, timeout time.Duration) []backend.Event {
	t.Helper()
	dst := make([]backend.Event, room)
	for {
		n, err := q.Wait(dst, timeout)
		if err == unix.EINTR {
			continue
		}
		require.NoError(t, err)
		return dst[:n]
	}
}

func TestOpenTwice(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		fd := q.fd
		require.ErrorIs(t, q.Open(backend.Config{}), unix.EBUSY)
		require.Equal(t, fd, q.fd)
	})
}

func TestWithoutAKernel(t *testing.T) {
	require.ErrorIs(t, new(Kqueue).Open(backend.Config{}), errors.ErrUnsupported)
}

func TestNotOpen(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		require.NoError(t, q.Close())
		require.NoError(t, q.Close(), "again")
		require.ErrorIs(t, q.Add(0, 1, backend.Readable), unix.EBADF)
		require.ErrorIs(t, q.Modify(0, 1, backend.Readable), unix.EBADF)
		require.ErrorIs(t, q.Delete(0), unix.EBADF)
		_, err := q.Wait(make([]backend.Event, 1), 0)
		require.ErrorIs(t, err, unix.EBADF)
		require.ErrorIs(t, q.Wake(), unix.EBADF)
	})
}

// Taken over by a registration of its number, what wakes it would wake nobody.
func TestItsOwnDescriptorsAreNotForOthers(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		own := []int{q.fd}
		if w, ok := q.waker.(*pipeWaker); ok {
			own = append(own, w.Reader, w.Writer)
		}
		for _, fd := range own {
			h := backend.Handle(fd)
			require.ErrorIs(t, q.Add(h, 2, backend.Readable), unix.EINVAL)
			require.ErrorIs(t, q.Modify(h, 2, backend.Readable), unix.ENOENT)
			require.ErrorIs(t, q.Delete(h), unix.ENOENT)
		}
		require.NoError(t, q.Wake())
		require.Empty(t, wait(t, q, 1, -1))
	})
}

// Which way it is woken: by a user event where the kernel has one.
func TestWakers(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		_, user := q.waker.(*userEvent)
		require.Equal(t, q.sys.HasUser, user, "%s", q.sys.Name)
	})
}

// Headers know user events, and the kernel may not: then there is a pipe.
func TestAKernelOlderThanItsHeaders(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			q := NewOn(&withoutUser{Kernel: kernel()})
			require.NoError(t, q.Open(backend.Config{}))
			defer q.Close()
			require.IsType(t, &pipeWaker{}, q.waker)
			for range 3 {
				require.NoError(t, q.Wake())
				require.Empty(t, wait(t, q, 1, -1))
			}
			a, b := fixture.Pair(t)
			b.Write("x")
			require.NoError(t, q.Add(a.Handle(), 1, backend.Readable))
			require.NoError(t, q.Wake())
			require.Len(t, wait(t, q, 1, -1), 1)
		})
	}
}

type withoutUser struct{ kq.Kernel }

func (k *withoutUser) System() kq.System {
	s := k.Kernel.System()
	s.HasUser, s.User = true, -99
	return s
}

// Reading and writing are two knotes, and one event; also when there is room for
// fewer, and when another wake is among them.
func TestTwoKnotesAreOneEvent(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		const n = 4
		for k := range backend.Key(n) {
			a, b := fixture.Pair(t)
			b.Write("x")
			require.NoError(t, q.Add(a.Handle(), k+1, backend.Readable|backend.Writable))
		}
		for _, room := range []int{n, n + 1, 2 * n, 64} {
			require.NoError(t, q.Wake())
			seen := make(map[backend.Key]backend.Readiness)
			for _, ev := range wait(t, q, room, 0) {
				require.Zero(t, seen[ev.Key], "key %d came twice", ev.Key)
				seen[ev.Key] = ev.Ready
			}
			require.Len(t, seen, n, "room for %d", room)
			for k, r := range seen {
				if room > n {
					require.Equal(t, backend.ReadyReadable|backend.ReadyWritable, r, "key %d, room for %d", k, room)
				}
			}
		}
		for range 4 * n {
			require.Len(t, wait(t, q, 1, 0), 1)
		}
	})
}

// Of a one-shot registration that is ready in both directions comes one event, and
// what it leaves in the batch does not hide others.
func TestOneShotOfTwoKnotes(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		const n = 6
		var ends []*fixture.End
		for k := range backend.Key(n) {
			a, b := fixture.Pair(t)
			b.Write("x")
			ends = append(ends, a)
			require.NoError(t, q.Add(a.Handle(), k+1, backend.Readable|backend.Writable|backend.OneShot))
		}
		seen := make(map[backend.Key]int)
		for range n {
			for _, ev := range wait(t, q, 2, 0) {
				seen[ev.Key]++
			}
		}
		require.Len(t, seen, n)
		for k, times := range seen {
			require.Equal(t, 1, times, "key %d", k)
		}
		for k, e := range ends {
			require.ErrorIs(t, q.Add(e.Handle(), 100, backend.Readable), unix.EEXIST, "it is registered all the same")
			require.NoError(t, q.Modify(e.Handle(), backend.Key(k+1), backend.Readable))
		}
		require.Len(t, wait(t, q, 64, 0), n)
	})
}

// An event that was fetched before a change is nothing to the new registration.
func TestAnEventOlderThanItsRegistration(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			k := &between{Kernel: kernel()}
			q := NewOn(k)
			require.NoError(t, q.Open(backend.Config{}))
			defer q.Close()
			a, b := fixture.Pair(t)
			b.Write("x")
			require.NoError(t, q.Add(a.Handle(), 1, backend.Readable|backend.Edge))
			k.fetched = func() { // and before it is looked at
				a.Drain()
				require.NoError(t, q.Modify(a.Handle(), 2, backend.Readable|backend.Edge))
			}
			require.Empty(t, wait(t, q, 4, 0))
			k.fetched = nil
			require.Empty(t, wait(t, q, 4, 0))
			b.Write("y")
			require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, wait(t, q, 4, 0))
		})
	}
}

type between struct {
	kq.Kernel
	fetched func()
}

func (k *between) Kevent(fd int, changes, events []kq.Event, timeout time.Duration) (int, error) {
	n, err := k.Kernel.Kevent(fd, changes, events, timeout)
	if len(events) > 0 && k.fetched != nil {
		k.fetched()
	}
	return n, err
}

// A pipe to write whose reader is gone: kernels refuse to watch it, and the contract
// asks for an event, in every mode, among others.
func TestNobodyReadsThePipe(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		closed := backend.ReadyWritable | backend.ReadyWriteClosed
		r, w := fixture.Pipe(t)
		r.Close()
		a, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, q.Add(a.Handle(), 1, backend.Readable))
		require.NoError(t, q.Add(w.Handle(), 2, backend.Writable))
		require.ErrorIs(t, q.Add(w.Handle(), 3, backend.Writable), unix.EEXIST)
		seen := make(map[backend.Key]int)
		for range 8 { // with room for one each has its turn
			for _, ev := range wait(t, q, 1, -1) {
				seen[ev.Key]++
			}
		}
		require.Equal(t, map[backend.Key]int{1: 4, 2: 4}, seen)
		for k, mode := range []backend.Interest{backend.OneShot, backend.Edge} {
			key := backend.Key(10 + k)
			require.NoError(t, q.Modify(w.Handle(), key, backend.Writable|mode))
			var got []backend.Event
			for range 4 {
				for _, ev := range wait(t, q, 4, 0) {
					if ev.Key != 1 {
						ev.Ready |= closed // Error, where the kernel watches it after all
						got = append(got, ev)
					}
				}
			}
			require.Len(t, got, 1, "mode %v", mode)
			require.Equal(t, key, got[0].Key)
		}
		number := w.FD
		w.Close()
		c, d := fixture.PairAt(t, number)
		require.ErrorIs(t, q.Modify(c.Handle(), 20, backend.Readable), unix.ENOENT)
		require.NoError(t, q.Add(c.Handle(), 21, backend.Readable))
		d.Write("x")
		require.Len(t, wait(t, q, 4, 0), 2)

		r, w = fixture.Pipe(t)
		r.Close()
		require.NoError(t, q.Add(w.Handle(), 30, backend.Writable))
		require.NoError(t, q.Delete(w.Handle()))
		require.ErrorIs(t, q.Delete(w.Handle()), unix.ENOENT)
		for _, ev := range wait(t, q, 4, 0) {
			require.NotEqual(t, backend.Key(30), ev.Key)
		}
		require.NoError(t, q.Add(w.Handle(), 31, backend.Writable))
		w.Close() // and never told
		for range 3 {
			for _, ev := range wait(t, q, 4, 0) {
				require.NotEqual(t, backend.Key(31), ev.Key)
			}
		}
	})
}

// finalizing drops, as kernels do, the knote of a pipe to write with the event that
// tells that its reader has gone.
type finalizing struct{ kq.Kernel }

func (k *finalizing) Kevent(fd int, changes, events []kq.Event, timeout time.Duration) (int, error) {
	n, err := k.Kernel.Kevent(fd, changes, events, timeout)
	for i := range events[:max(n, 0)] {
		ev := &events[i]
		var st unix.Stat_t
		if ev.Filter == k.System().Write && ev.Flags&kq.EOF != 0 &&
			unix.Fstat(int(ev.Ident), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
			ev.Flags |= kq.OneShot
			_, _ = k.Kernel.Kevent(fd, []kq.Event{{Ident: ev.Ident, Filter: ev.Filter, Flags: kq.Delete}}, nil, 0)
		}
	}
	return n, err
}

// The reader goes while its pipe is registered: it stays so, in every mode.
func TestTheReaderGoesLater(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			q := NewOn(&finalizing{kernel()})
			require.NoError(t, q.Open(backend.Config{}))
			defer q.Close()
			for _, mode := range []backend.Interest{0, backend.OneShot, backend.Edge} {
				r, w := fixture.Pipe(t)
				w.Fill()
				require.NoError(t, q.Add(w.Handle(), 1, backend.Writable|mode))
				require.Empty(t, wait(t, q, 4, 0), "full")
				r.Close()
				for i := range 3 {
					events := wait(t, q, 4, 0)
					if mode != 0 && i > 0 {
						require.Empty(t, events)
						continue
					}
					require.Len(t, events, 1, "mode %v, wait %d", mode, i)
					require.True(t, events[0].Ready.Has(backend.ReadyWritable|backend.ReadyWriteClosed), "%v", events[0].Ready)
				}
				require.ErrorIs(t, q.Add(w.Handle(), 2, backend.Writable), unix.EEXIST)
				require.NoError(t, q.Modify(w.Handle(), 3, backend.Writable|mode))
				events := wait(t, q, 4, 0)
				require.Len(t, events, 1)
				require.Equal(t, backend.Key(3), events[0].Key)
				require.NoError(t, q.Delete(w.Handle()))
				require.ErrorIs(t, q.Delete(w.Handle()), unix.ENOENT)
				require.Empty(t, wait(t, q, 4, 0))
			}
		})
	}
}

// Opened again, nothing is left of what was over.
func TestOpenAgain(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		r, w := fixture.Pipe(t)
		r.Close()
		require.NoError(t, q.Add(w.Handle(), 1, backend.Writable))
		require.NoError(t, q.Close())
		require.NoError(t, q.Open(backend.Config{}))
		require.Empty(t, wait(t, q, 4, 0))
		require.NoError(t, q.Add(w.Handle(), 2, backend.Writable))
	})
}

// One knote of two was lost to somebody else: neither a deletion nor a wait is stuck
// with the other.
func TestALostKnote(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		for _, lost := range []int32{q.sys.Read, q.sys.Write} {
			for _, change := range []func(h backend.Handle) error{
				q.Delete, func(h backend.Handle) error { return q.Modify(h, 2, backend.Readable) },
			} {
				a, b := fixture.Pair(t)
				b.Write("x")
				require.NoError(t, q.Add(a.Handle(), 1, backend.Readable|backend.Writable))
				_, err := q.kernel.Kevent(q.fd, []kq.Event{{Ident: uint64(a.FD), Filter: lost, Flags: kq.Delete}}, nil, 0)
				require.NoError(t, err)
				require.ErrorIs(t, change(a.Handle()), unix.ENOENT)
				n, err := q.kernel.Kevent(q.fd, nil, make([]kq.Event, 1), 0)
				require.NoError(t, err)
				require.Zero(t, n, "a knote is left")
				require.Empty(t, wait(t, q, 1, 0))
				require.NoError(t, q.Add(a.Handle(), 3, backend.Readable))
				require.Len(t, wait(t, q, 4, 0), 1)
				require.NoError(t, q.Delete(a.Handle()))
			}
		}
	})
}

// A registration of such a pipe ends a wait in progress.
func TestNobodyReadsThePipeWhileWaiting(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		r, w := fixture.Pipe(t)
		r.Close()
		got := make(chan backend.Key)
		go func() {
			dst := make([]backend.Event, 4)
			for {
				n, err := q.Wait(dst, -1)
				if err != nil && err != unix.EINTR || n > 0 {
					got <- dst[0].Key
					return
				}
			}
		}()
		require.NoError(t, q.Add(w.Handle(), 7, backend.Writable))
		require.Equal(t, backend.Key(7), <-got)
	})
}

// Waits longer than a kernel takes are cut; the core waits again.
func TestLongWaits(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		for _, timeout := range []time.Duration{longest + 1, 100_000_001 * time.Second, 1<<63 - 1} {
			require.NoError(t, q.Wake())
			require.Empty(t, wait(t, q, 1, timeout), "and no error")
		}
		require.LessOrEqual(t, longest, 100_000_000*time.Second)
	})
}

// A second registration that is refused changes nothing, in no mode, shot or not: at
// most an edge is told once more.
func TestAProbeChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		for _, mode := range []backend.Interest{0, backend.Edge, backend.OneShot} {
			a, b := fixture.Pair(t)
			b.Write("x")
			require.NoError(t, q.Add(a.Handle(), 1, backend.Readable|mode))
			require.Len(t, wait(t, q, 4, 0), 1)
			require.ErrorIs(t, q.Add(a.Handle(), 2, backend.Writable), unix.EEXIST)
			again := []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}
			switch events := wait(t, q, 4, 0); {
			case mode == 0:
				require.Equal(t, again, events)
			case mode == backend.OneShot:
				require.Empty(t, events)
			case len(events) > 0:
				require.Equal(t, again, events)
				require.Empty(t, wait(t, q, 4, 0), "and not twice")
			}
			require.NoError(t, q.Delete(a.Handle()))
		}
	})
}

func TestOpenFailsWithoutLeaks(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			k := kernel()
			restore := fixture.LowerDescriptorLimit(t)
			err := NewOn(k).Open(backend.Config{})
			restore()
			require.ErrorIs(t, err, unix.EMFILE)
			require.ErrorContains(t, err, "kqueue")
		})
	}
}

func TestCloseLeaksNothing(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		limit := min(fixture.DescriptorLimit(t), 1024)
		before := fixture.OpenDescriptors(limit)
		for range 20 {
			p := NewOn(q.kernel)
			require.NoError(t, p.Open(backend.Config{}))
			require.NoError(t, p.Close())
		}
		require.Less(t, fixture.OpenDescriptors(limit), before+20)
	})
}

// P10, without a kernel: that allocates if it is a simulated one.
func TestAllocations(t *testing.T) {
	k := new(still)
	q := NewOn(k)
	require.NoError(t, q.Open(backend.Config{}))
	a, _ := fixture.Pair(t)
	h := a.Handle()
	dst := make([]backend.Event, 4)
	do := func() {
		err := q.Add(h, 1, backend.Readable|backend.Writable|backend.OneShot)
		k.event = kq.Event{Ident: uint64(h), Filter: k.System().Read, Udata: q.serial}
		n, _ := q.Wait(dst, 0)
		if err != nil || n != 1 || q.Modify(h, 2, backend.Readable) != nil || q.Wake() != nil || q.Delete(h) != nil {
			panic("a call failed")
		}
	}
	do()
	require.Zero(t, testing.AllocsPerRun(100, do))
}

// still is a kernel that takes every change, and has one event.
type still struct{ event kq.Event }

func (*still) Kqueue() (int, error) { return -1, nil }
func (*still) Close(int) error      { return nil }
func (*still) System() kq.System {
	return kq.System{Name: "still", Read: 1, Write: 2, User: 3, HasUser: true}
}

func (k *still) Kevent(_ int, _, events []kq.Event, _ time.Duration) (int, error) {
	if len(events) == 0 {
		return 0, nil
	}
	events[0] = k.event
	return 1, nil
}
