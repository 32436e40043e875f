//go:build unix

package socket_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What errors unwrap to, beside what package fixture knows.
const (
	// errShut is the error of writing after CloseWrite.
	errShut = unix.EPIPE
	// errTooLong is that of a datagram that is too long.
	errTooLong = unix.EMSGSIZE
)

// errGone is the error of writing to a peer that is gone, one of these.
var errGone = []error{unix.EPIPE}

// blocks reports whether operations on a socket wait.
func blocks(t testing.TB, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	require.NoError(t, err)
	return flags&unix.O_NONBLOCK == 0
}
