//go:build !portable

package socket

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// sysSendFile writes a part of a file.
func sysSendFile(h handle, f *os.File, off, n int64) (written int64, err error) {
	if !isNonblocking(h) {
		return copyFile(h, f, off, n)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	copying := false
	controlErr := raw.Control(func(fd uintptr) {
		at := off
		for written < n && err == nil && !copying {
			// It tells the scheduler, because the file's disk may be slow.
			var m int
			m, err = unix.Sendfile(int(h), int(fd), &at, int(min(n-written, maxTransfer)))
			written += int64(max(m, 0))
			switch {
			case err == unix.EINTR:
				err = nil
			case err == unix.EAGAIN:
				err = ErrWouldBlock
			case err == unix.EINVAL, err == unix.ENOSYS, err == unix.EOPNOTSUPP: // a file that it does not support
				err, copying = nil, true
			case err != nil:
				err = os.NewSyscallError("sendfile", err)
			case m == 0:
				err = io.ErrUnexpectedEOF
			}
		}
	})
	if controlErr != nil {
		return written, controlErr
	}
	if copying {
		m, err := copyFile(h, f, off+written, n-written)
		return written + m, err
	}
	return written, err
}

// isNonblocking reports whether a descriptor has O_NONBLOCK. Without this flag, sendfile and
// splice wait for a socket. Another program that shares the open file can clear it.
func isNonblocking(h handle) bool {
	flags, _, errno := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(h), unix.F_GETFL, 0)
	return errno == 0 && flags&unix.O_NONBLOCK != 0
}
