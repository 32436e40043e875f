package socket

import (
	"os"

	"golang.org/x/sys/unix"
)

// setDeferAccept sets the accept filter "dataready". A struct accept_filter_arg has 16 bytes
// for the name of the filter, and 240 for its arguments.
func setDeferAccept(h handle, _ int) error {
	var arg [256]byte
	copy(arg[:], "dataready")
	return os.NewSyscallError("setsockopt", unix.SetsockoptString(int(h), unix.SOL_SOCKET, unix.SO_ACCEPTFILTER, string(arg[:])))
}
