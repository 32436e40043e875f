package socket

import (
	"os"

	"golang.org/x/sys/unix"
)

// setDeferAccept sets the accept filter "dataready": a struct accept_filter_arg is its
// name in 16 bytes, and 240 for arguments.
func setDeferAccept(h handle, _ int) error {
	var arg [256]byte
	copy(arg[:], "dataready")
	return os.NewSyscallError("setsockopt", unix.SetsockoptString(int(h), unix.SOL_SOCKET, unix.SO_ACCEPTFILTER, string(arg[:])))
}
