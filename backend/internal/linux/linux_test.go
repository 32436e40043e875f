//go:build linux

package linux_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
)

func TestReadinessOfKernelBits(t *testing.T) {
	const (
		r, w, pri = backend.ReadyReadable, backend.ReadyWritable, backend.ReadyPriority
		e, rc, wc = backend.ReadyError, backend.ReadyReadClosed, backend.ReadyWriteClosed
	)
	for bits, want := range map[uint32]backend.Readiness{
		0:                                 0,
		unix.EPOLLIN:                      r,
		unix.EPOLLOUT:                     w,
		unix.EPOLLIN | unix.EPOLLOUT:      r | w,
		unix.EPOLLPRI:                     pri,
		unix.EPOLLERR:                     e,
		unix.EPOLLRDHUP:                   rc,
		unix.EPOLLHUP:                     rc | wc,
		unix.EPOLLIN | unix.EPOLLRDHUP:    r | rc,
		unix.EPOLLOUT | unix.EPOLLERR:     w | e,
		unix.EPOLLERR | unix.EPOLLHUP | 1: r | e | rc | wc,
	} {
		require.Equal(t, want, linux.Readiness(bits), "%#x", bits)
	}
}

func TestErrorsNameTheLimit(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOSPC, unix.ENOMEM} {
		err := linux.OpenError("epoll_create1", errno)
		require.ErrorIs(t, err, errno)
		require.ErrorContains(t, err, "epoll_create1")
	}
	require.ErrorContains(t, linux.OpenError("x", unix.ENFILE), "fs.file-max")
	require.ErrorContains(t, linux.OpenError("x", unix.ENOSPC), "max_user_watches")
	require.ErrorContains(t, linux.CtlError(unix.ENOSPC), "max_user_watches")
}
