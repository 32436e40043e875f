package socket

import "golang.org/x/sys/unix"

// sendFlags keep a write to a peer that is gone from being a signal: here it is an
// option of the socket instead.
const sendFlags = 0

func setNoSignal(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NOSIGPIPE, 1)
}
