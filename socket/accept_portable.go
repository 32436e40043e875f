//go:build unix && (!linux || portable)

package socket

import (
	"os"

	"golang.org/x/sys/unix"
)

// canAccept reports whether a connection waits. accept takes no flag such as MSG_DONTWAIT, so
// without this check it would wait if another program has cleared O_NONBLOCK.
func canAccept(h handle) bool {
	fds := []unix.PollFd{{Fd: int32(h), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return n > 0 || err != nil // accept will report the error
}

// sysAccept accepts one connection.
func sysAccept(h handle) (handle, error) {
	for {
		if !canAccept(h) {
			return 0, ErrWouldBlock
		}
		fd, err := acceptOne(int(h))
		switch err {
		case nil:
			if err = setNoSignal(fd); err == nil {
				return handle(fd), nil
			}
			_ = unix.Close(fd) // it was reset already: accept the next one
		case unix.EAGAIN:
			return 0, ErrWouldBlock
		case unix.EINTR, unix.ECONNABORTED: // the latter: the peer gave it up
		default:
			return 0, os.NewSyscallError("accept", err)
		}
	}
}
