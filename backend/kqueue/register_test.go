//go:build unix

package kqueue

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/kq"
)

// A second registration that is refused changes nothing, in every mode and also after a
// one-shot event. At most it repeats an edge.
// contract: R3
func TestAdd_RegisteredChangesNothing(t *testing.T) {
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
				require.Empty(t, wait(t, q, 4, 0), "the edge is repeated twice")
			}
			require.NoError(t, q.Delete(a.Handle()))
		}
	})
}

// The probe for a one-shot registration that has had its event does not arm it.
func TestAdd_RegisteredAfterOneShot(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		a, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, q.Add(a.Handle(), 1, backend.Readable|backend.OneShot))
		require.Len(t, wait(t, q, 1, 0), 1)
		require.ErrorIs(t, q.Add(a.Handle(), 2, backend.Readable), unix.EEXIST)
		b.Write("y")
		n, err := q.kernel.Kevent(q.fd, nil, make([]kq.Event, 1), 0)
		require.NoError(t, err)
		require.Zero(t, n, "its knote is no longer disabled")
	})
}

// Add makes all knotes or none. Modify reports that it lost what it could not replace.
func TestAdd_AllKnotesOrNone(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		p := NewOn(q.kernel)
		require.NoError(t, p.Open())
		defer p.Close()
		h := backend.Handle(p.fd) // it can be watched for reading only
		require.ErrorIs(t, q.Add(h, 1, backend.Readable|backend.Writable), backend.ErrNotPollable)
		enable := []kq.Event{{Ident: uint64(h), Filter: q.sys.Read, Flags: kq.Enable}}
		_, err := q.kernel.Kevent(q.fd, enable, nil, 0)
		require.Equal(t, unix.ENOENT, err, "one of its knotes exists")
		require.NoError(t, q.Add(h, 2, backend.Readable))
		err = q.Modify(h, 3, backend.Readable|backend.Writable)
		require.ErrorIs(t, err, backend.ErrLost)
		require.ErrorIs(t, err, backend.ErrNotPollable)
		require.NoError(t, q.Add(h, 2, backend.Readable), "the core can register it again")
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

// One of two knotes is lost: neither a change nor a Wait is stuck with the other.
func TestDelete_OneKnoteLost(t *testing.T) {
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
				require.Zero(t, n, "a knote remains")
				require.Empty(t, wait(t, q, 1, 0))
				require.NoError(t, q.Add(a.Handle(), 3, backend.Readable))
				require.Len(t, wait(t, q, 4, 0), 1)
				require.NoError(t, q.Delete(a.Handle()))
			}
		}
	})
}

// A signal interrupts the call after the changes were applied.
func TestChanges_Interrupted(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		a, _ := fixture.Pair(t)
		k.after = func(events []kq.Event) error {
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

// A number that no descriptor has is not taken for its lower half.
func TestAdd_NumbersBeyondDescriptors(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		a, b := fixture.Pair(t)
		require.NoError(t, q.Add(a.Handle(), 1, backend.Readable))
		if far := uint64(a.FD) | 1<<32; uint64(backend.Handle(far)) == far { // unless a Handle has 32 bits
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

// A device that is always ready is registered, or ErrNotPollable.
func TestAdd_DevNull(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		if err := q.Add(backend.Handle(fd), 1, backend.Readable); err != nil {
			require.ErrorIs(t, err, backend.ErrNotPollable)
		}
	})
}

// EBADF means a broken pipe on NetBSD, and what it says for everything but pipes.
func TestAdd_BadDescriptorOfSocket(t *testing.T) {
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

func TestModify_ClosedDescriptor(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		a, _ := fixture.Pair(t)
		require.NoError(t, q.Add(a.Handle(), 1, backend.Writable))
		a.Close()
		err := q.Modify(a.Handle(), 2, backend.Writable)
		require.ErrorIs(t, err, unix.EBADF)
		require.NotErrorIs(t, err, backend.ErrLost)
	})
}
