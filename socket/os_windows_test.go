package socket_test

import (
	"testing"

	"golang.org/x/sys/windows"
)

// What errors unwrap to, beside what package fixture knows.
const (
	// errShut is the error of writing after CloseWrite.
	errShut = windows.WSAESHUTDOWN
	// errTooLong is that of a datagram that is too long.
	errTooLong = windows.WSAEMSGSIZE
)

// errGone is the error of writing to a peer that is gone, one of these.
var errGone = []error{windows.WSAECONNRESET, windows.WSAECONNABORTED}

// blocks reports whether operations on a socket wait. Windows cannot be asked; that
// reading answers, all tests show.
func blocks(testing.TB, int) bool { return false }
