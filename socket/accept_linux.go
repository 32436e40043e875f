//go:build !portable

package socket

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// inheritsNoDelay says that an accepted connection inherits TCP_NODELAY from its listener.
const inheritsNoDelay = true

// sysAccept accepts one connection.
func sysAccept(h handle) (handle, error) {
	for {
		fd, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(h), 0, 0, newFlags, 0, 0)
		switch errno {
		case 0:
			return handle(fd), nil
		case unix.EAGAIN:
			return 0, ErrWouldBlock
		case unix.EINTR, unix.ECONNABORTED: // the latter: the peer gave it up
		default:
			return 0, os.NewSyscallError("accept4", errno)
		}
	}
}
