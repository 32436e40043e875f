//go:build !portable

package socket

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canAccept reports whether a connection waits. accept4 takes no flag such as MSG_DONTWAIT,
// so without this check it would wait if another program has cleared O_NONBLOCK. The check
// costs less than an accept4 that finds nothing, because that one allocates a file first.
func canAccept(h handle) bool {
	fd := unix.PollFd{Fd: int32(h), Events: unix.POLLIN}
	var now unix.Timespec
	n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fd)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n > 0 || errno != 0 // accept4 will report the error
}

// sysAccept accepts one connection. accept4 tells the scheduler: another process that shares
// a listener without O_NONBLOCK may take the connection after the check. Then this call waits
// for the next one, but it stops nothing else.
func sysAccept(h handle) (handle, error) {
	for {
		if !canAccept(h) {
			return 0, ErrWouldBlock
		}
		fd, _, errno := syscall.Syscall6(unix.SYS_ACCEPT4, uintptr(h), 0, 0, newFlags, 0, 0)
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
