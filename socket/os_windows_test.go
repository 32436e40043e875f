package socket_test

import (
	"testing"

	"golang.org/x/sys/windows"
)

// The errors that package fixture does not name.
const (
	// errShut is what a write after CloseWrite unwraps to.
	errShut = windows.WSAESHUTDOWN
	// errTooLong is what a write of a too long datagram unwraps to.
	errTooLong = windows.WSAEMSGSIZE
)

// errGone lists what a write to a peer that is gone unwraps to.
var errGone = []error{windows.WSAECONNRESET, windows.WSAECONNABORTED}

// blocks reports whether operations on a socket wait. Windows cannot be asked. All tests show
// that reads do not wait.
func blocks(testing.TB, int) bool { return false }
