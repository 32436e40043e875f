//go:build unix

package socket_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The errors that package fixture does not name.
const (
	// errShut is what a write after CloseWrite unwraps to.
	errShut = unix.EPIPE
	// errTooLong is what a write of a too long datagram unwraps to.
	errTooLong = unix.EMSGSIZE
)

// errGone lists what a write to a peer that is gone unwraps to.
var errGone = []error{unix.EPIPE}

// blocks reports whether operations on a socket wait.
func blocks(t testing.TB, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	require.NoError(t, err)
	return flags&unix.O_NONBLOCK == 0
}
