//go:build unix

package kqueue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/kq"
)

// hooked lets a test look at, or answer, calls of the kernel.
type hooked struct {
	kq.Kernel
	before func(changes, events []kq.Event) error
	after  func(events []kq.Event) error
}

func (k *hooked) Kevent(fd int, changes, events []kq.Event, timeout time.Duration) (int, error) {
	if k.before != nil {
		if err := k.before(changes, events); err != nil {
			return 0, err
		}
	}
	n, err := k.Kernel.Kevent(fd, changes, events, timeout)
	if k.after != nil && err == nil {
		if err := k.after(events); err != nil {
			return 0, err
		}
	}
	return n, err
}

func eachHooked(t *testing.T, run func(t *testing.T, k *hooked, q *Kqueue)) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			k := &hooked{Kernel: kernel()}
			q := NewOn(k)
			require.NoError(t, q.Open(backend.Config{}))
			t.Cleanup(func() { k.before, k.after = nil, nil; _ = q.Close() })
			run(t, k, q)
		})
	}
}

// ends fails the test if do does not return: a Wait that spins cannot be interrupted.
func ends(t *testing.T, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { do(); close(done) }()
	select {
	case <-done:
	case <-time.After(fixture.Soon):
		t.Fatal("it does not end")
	}
}

// Asking whether a registration that has shot is there does not arm it.
func TestShotAndAsked(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		a, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, q.Add(a.Handle(), 1, backend.Readable|backend.OneShot))
		require.Len(t, wait(t, q, 1, 0), 1)
		require.ErrorIs(t, q.Add(a.Handle(), 2, backend.Readable), unix.EEXIST)
		b.Write("y")
		n, err := q.kernel.Kevent(q.fd, nil, make([]kq.Event, 1), 0)
		require.NoError(t, err)
		require.Zero(t, n, "its knote is disabled still")
	})
}

// Nor does it enable what is over.
func TestOverAndAsked(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		r, w := fixture.Pipe(t)
		r.Close()
		k.before = func(changes, _ []kq.Event) error {
			for _, c := range changes {
				if c.Filter == q.sys.Read && c.Ident == uint64(w.FD) {
					require.NotZero(t, c.Flags&kq.Disable, "it would report the end of reading")
				}
			}
			return nil
		}
		require.NoError(t, q.Add(w.Handle(), 1, backend.Writable))
		require.ErrorIs(t, q.Add(w.Handle(), 2, backend.Writable), unix.EEXIST)
		require.Len(t, wait(t, q, 4, 0), 1)
	})
}

// An event that was fetched before its registration ended is nobody's.
func TestDeletedAfterTheFetch(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		a, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, q.Add(a.Handle(), 1, backend.Readable))
		k.after = func(events []kq.Event) error {
			if len(events) > 0 {
				k.after = nil
				require.NoError(t, q.Delete(a.Handle()))
			}
			return nil
		}
		require.Empty(t, wait(t, q, 4, 0))
	})
}

// A change between two looks of one Wait: what the second one finds is the new key's.
func TestModifiedInTheMiddle(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		a, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, q.Add(a.Handle(), 1, backend.Readable|backend.Writable|backend.Edge))
		looks := 0
		k.before = func(_, events []kq.Event) error {
			if len(events) == 0 {
				return nil
			}
			if looks++; looks == 2 {
				require.NoError(t, q.Modify(a.Handle(), 2, backend.Readable|backend.Writable|backend.Edge))
			}
			return nil
		}
		seen := make(map[backend.Key]backend.Readiness)
		for range 3 {
			for _, ev := range wait(t, q, 2, 0) {
				seen[ev.Key] |= ev.Ready
			}
		}
		require.Equal(t, backend.ReadyReadable|backend.ReadyWritable, seen[2], "what went to the old key is lost")
	})
}

// An interruption comes after the changes were made.
func TestInterruptedChange(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		a, _ := fixture.Pair(t)
		k.after = func(events []kq.Event) error { // after the changes were made
			if len(events) == 0 {
				return unix.EINTR
			}
			return nil
		}
		require.NoError(t, q.Add(a.Handle(), 1, backend.Writable))
		require.NoError(t, q.Modify(a.Handle(), 2, backend.Writable))
		require.Len(t, wait(t, q, 4, 0), 1)
		require.NoError(t, q.Delete(a.Handle()))
		require.NoError(t, q.Wake())
	})
}

// An error after events were found comes again; the events would not.
func TestErrorAfterEvents(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		a, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, q.Add(a.Handle(), 1, backend.Readable|backend.Writable))
		looks := 0
		k.before = func(_, events []kq.Event) error {
			if len(events) > 0 {
				if looks++; looks == 2 {
					return unix.EINTR
				}
			}
			return nil
		}
		n, err := q.Wait(make([]backend.Event, 2), 0)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}

// Both knotes or none; and what Modify could not replace, it says that it lost.
func TestRollback(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		p := NewOn(q.kernel)
		require.NoError(t, p.Open(backend.Config{}))
		defer p.Close()
		h := backend.Handle(p.fd) // can be read only
		require.ErrorIs(t, q.Add(h, 1, backend.Readable|backend.Writable), backend.ErrNotPollable)
		enable := []kq.Event{{Ident: uint64(h), Filter: q.sys.Read, Flags: kq.Enable}}
		_, err := q.kernel.Kevent(q.fd, enable, nil, 0)
		require.Equal(t, unix.ENOENT, err, "half of it is there")
		require.NoError(t, q.Add(h, 2, backend.Readable))
		err = q.Modify(h, 3, backend.Readable|backend.Writable)
		require.ErrorIs(t, err, backend.ErrLost)
		require.ErrorIs(t, err, backend.ErrNotPollable)
		require.NoError(t, q.Add(h, 2, backend.Readable), "so it can be put back")
		a, _ := fixture.Pair(t)
		require.NoError(t, q.Add(a.Handle(), 4, backend.Readable))
		number := a.FD
		a.Close()
		c, _ := fixture.PairAt(t, number)
		err = q.Modify(c.Handle(), 5, backend.Readable)
		require.ErrorIs(t, err, unix.ENOENT)
		require.NotErrorIs(t, err, backend.ErrLost)
	})
}

// With nothing else to report, what is over ends every wait.
func TestOnlyOver(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		r, w := fixture.Pipe(t)
		r.Close()
		require.NoError(t, q.Add(w.Handle(), 1, backend.Writable))
		wait(t, q, 4, 0) // the wake
		for range 4 {
			ends(t, func() { require.Len(t, wait(t, q, 4, -1), 1) })
		}
	})
}

// The next owner of the number has nothing of it.
func TestOverNoMore(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		r, w := fixture.Pipe(t)
		r.Close()
		require.NoError(t, q.Add(w.Handle(), 1, backend.Writable))
		number := w.FD
		w.Close()
		c, d := fixture.PairAt(t, number)
		require.NoError(t, q.Add(c.Handle(), 2, backend.Readable))
		for range 2 {
			require.Empty(t, wait(t, q, 4, 0))
		}
		require.ErrorIs(t, q.Add(c.Handle(), 3, backend.Readable), unix.EEXIST)
		d.Write("x")
		require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, wait(t, q, 4, 0))
	})
}

// Registering what is over wakes who waits.
func TestOverWakes(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		r, w := fixture.Pipe(t)
		r.Close()
		ends(t, func() {
			time.AfterFunc(50*time.Millisecond, func() { _ = q.Add(w.Handle(), 7, backend.Writable) })
			for len(wait(t, q, 4, -1)) == 0 {
			}
		})
	})
}

// A kernel that takes nothing at all: the error is that of the pipe, and nothing is left.
func TestOverRefused(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		r, w := fixture.Pipe(t)
		r.Close()
		k.before = func(changes, _ []kq.Event) error {
			if len(changes) > 0 && changes[0].Flags&kq.Disable != 0 {
				return unix.ENOMEM
			}
			return nil
		}
		require.Error(t, q.Add(w.Handle(), 1, backend.Writable))
		k.before = nil
		require.ErrorIs(t, q.Delete(w.Handle()), unix.ENOENT)
		require.Empty(t, wait(t, q, 4, 0))
	})
}

// Numbers that no descriptor has are not taken for their lower half.
func TestBadNumbers(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		a, b := fixture.Pair(t)
		require.NoError(t, q.Add(a.Handle(), 1, backend.Readable))
		if far := uint64(a.FD) | 1<<32; uint64(backend.Handle(far)) == far { // else there are 32 bits
			h := backend.Handle(far)
			require.ErrorIs(t, q.Add(h, 2, backend.Readable), unix.EBADF)
			require.ErrorIs(t, q.Modify(h, 2, backend.Readable), unix.EBADF)
			require.ErrorIs(t, q.Delete(h), unix.EBADF)
		}
		b.Write("x")
		require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}, wait(t, q, 4, 0))
		c, _ := fixture.Pair(t)
		h := c.Handle()
		c.Close()
		require.ErrorIs(t, q.Delete(h), unix.EBADF)
	})
}

// A device that is always ready is taken, or ErrNotPollable.
func TestNull(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		if err := q.Add(backend.Handle(fd), 1, backend.Readable); err != nil {
			require.ErrorIs(t, err, backend.ErrNotPollable)
		}
	})
}

// Opening that fails half-way leaves nothing behind.
func TestOpenFailsLate(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			limit := min(fixture.DescriptorLimit(t), 1024)
			before := fixture.OpenDescriptors(limit)
			k := &hooked{Kernel: kernel(), before: func([]kq.Event, []kq.Event) error { return unix.ENOMEM }}
			for range 20 {
				require.ErrorIs(t, NewOn(k).Open(backend.Config{}), unix.ENOMEM)
			}
			require.Less(t, fixture.OpenDescriptors(limit), before+20)
		})
	}
}

// EBADF of something that is no pipe to write means what it says.
func TestBadDescriptorOfAnother(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		a, _ := fixture.Pair(t)
		k.before = func(changes, _ []kq.Event) error {
			if len(changes) > 0 && changes[0].Flags&kq.Disable == 0 {
				return unix.EBADF
			}
			return nil
		}
		require.ErrorIs(t, q.Add(a.Handle(), 1, backend.Readable), unix.EBADF)
	})
}

// And of a closed one, too.
func TestClosedAndModified(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		a, _ := fixture.Pair(t)
		require.NoError(t, q.Add(a.Handle(), 1, backend.Writable))
		a.Close()
		err := q.Modify(a.Handle(), 2, backend.Writable)
		require.ErrorIs(t, err, unix.EBADF)
		require.NotErrorIs(t, err, backend.ErrLost)
	})
}
