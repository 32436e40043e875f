//go:build linux

package epoll

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// What only this backend can get wrong.

func opened(t *testing.T) *Epoll {
	e := New()
	require.NoError(t, e.Open(backend.Config{}))
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// Taken over by a registration of its number, the eventfd would wake nobody.
func TestTheEventfdIsNotForOthers(t *testing.T) {
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

func TestOpenTwice(t *testing.T) {
	e := opened(t)
	fd := e.epfd
	require.ErrorIs(t, e.Open(backend.Config{}), unix.EBUSY)
	require.Equal(t, fd, e.epfd)
}

// An epoll watched by another cannot be watched exclusively, and to learn that
// takes its deletion: Modify must say that it is lost.
func TestALostRegistrationIsSaid(t *testing.T) {
	e, inner := opened(t), opened(t)
	h := backend.Handle(inner.epfd)
	require.NoError(t, e.Add(h, 1, backend.Readable))
	err := e.Modify(h, 2, backend.Readable|backend.Exclusive)
	require.ErrorIs(t, err, backend.ErrLost)
	require.ErrorIs(t, err, unix.EINVAL)
	require.NoError(t, e.Add(h, 1, backend.Readable), "it is gone indeed")
}

// The kernel has no EPOLLEXCLUSIVE for urgent data; each alone it has.
func TestExclusivePriority(t *testing.T) {
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
