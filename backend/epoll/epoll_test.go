//go:build linux

package epoll

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

func opened(t *testing.T) *Epoll {
	e := New()
	require.NoError(t, e.Open())
	t.Cleanup(func() {
		if e.epfd >= 0 {
			require.NoError(t, e.Close())
		}
	})
	return e
}

// A registration of the eventfd's number would replace the queue's own, and Wake would
// no longer wake.
func TestAdd_RefusesEventfd(t *testing.T) {
	e := opened(t)
	h := backend.Handle(e.wakefd)
	require.ErrorIs(t, e.Add(h, 1, backend.Readable), unix.EINVAL)
	require.ErrorIs(t, e.Modify(h, 1, backend.Readable), unix.EINVAL)
	require.ErrorIs(t, e.Delete(h), unix.EINVAL)
	require.ErrorIs(t, e.Add(backend.Handle(e.epfd), 1, backend.Readable), unix.EINVAL, "nor itself")
	require.NoError(t, e.Wake())
	n, err := e.Wait(make([]backend.Event, 1), -1)
	require.NoError(t, err)
	require.Zero(t, n)
}

// After Close, the numbers of the queue may belong to another one. A late call must not
// reach it.
func TestClose_LateCallsReachNobody(t *testing.T) {
	old := opened(t)
	require.NoError(t, old.Close())
	other := opened(t) // the kernel gives the lowest free numbers: those of old

	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	h := backend.Handle(w.Fd())
	require.ErrorIs(t, old.Add(h, 1, backend.Writable), unix.EBADF)
	require.ErrorIs(t, old.Wake(), unix.EBADF)
	_, err = old.Wait(make([]backend.Event, 1), 0)
	require.ErrorIs(t, err, unix.EBADF)
	n, err := other.Wait(make([]backend.Event, 1), 0)
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, other.Add(h, 2, backend.Writable))
	require.ErrorIs(t, old.Modify(h, 1, backend.Readable), unix.EBADF)
	require.ErrorIs(t, old.Delete(h), unix.EBADF)
	require.NoError(t, other.Delete(h))
}

// An epoll instance that is watched by another one cannot be watched exclusively. The
// kernel says so only after the old registration is deleted: Modify must report the loss.
func TestModify_ReportsLostRegistration(t *testing.T) {
	e, inner := opened(t), opened(t)
	h := backend.Handle(inner.epfd)
	require.NoError(t, e.Add(h, 1, backend.Readable))
	err := e.Modify(h, 2, backend.Readable|backend.Exclusive)
	require.ErrorIs(t, err, backend.ErrLost)
	require.ErrorIs(t, err, unix.EINVAL)
	require.NoError(t, e.Add(h, 1, backend.Readable), "it is lost indeed")
}

// The kernel supports EPOLLEXCLUSIVE and EPOLLPRI, but not together.
// contract: R9
func TestExclusive_NotWithPriority(t *testing.T) {
	e := opened(t)
	fds := make([]int, 2)
	require.NoError(t, unix.Pipe2(fds, unix.O_CLOEXEC|unix.O_NONBLOCK))
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	h := backend.Handle(fds[0])
	both := backend.Readable | backend.Priority | backend.Exclusive
	require.ErrorIs(t, e.Add(h, 1, both), errors.ErrUnsupported)
	require.NoError(t, e.Add(h, 1, backend.Readable))
	require.ErrorIs(t, e.Modify(h, 2, both), errors.ErrUnsupported)
	require.ErrorIs(t, e.Add(h, 1, backend.Readable), unix.EEXIST, "as before")
}
