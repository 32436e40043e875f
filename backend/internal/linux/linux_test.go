//go:build linux

package linux_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend/internal/linux"
)

// contract: E2
func TestOpenError_NamesTheLimit(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOSPC, unix.ENOMEM} {
		err := linux.OpenError("epoll_create1", errno)
		require.ErrorIs(t, err, errno)
		require.ErrorContains(t, err, "epoll_create1")
	}
	require.ErrorContains(t, linux.OpenError("x", unix.ENFILE), "fs.file-max")
	require.ErrorContains(t, linux.OpenError("x", unix.ENOSPC), "max_user_watches")
	require.ErrorContains(t, linux.CtlError(unix.ENOSPC), "max_user_watches")
}
