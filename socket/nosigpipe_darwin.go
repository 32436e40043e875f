package socket

import "golang.org/x/sys/unix"

// sendFlags are the flags of every write. On macOS an option of the socket, not a flag,
// prevents the signal SIGPIPE.
const sendFlags = dontWait

func setNoSignal(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NOSIGPIPE, 1)
}
