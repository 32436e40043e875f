//go:build unix

package socket

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Unix addresses go through package syscall, because package unix refuses abstract names of
// full length.

func bind(h handle, t *target) error {
	var err error
	if t.family == unixDomain {
		err = syscall.Bind(int(h), &syscall.SockaddrUnix{Name: t.path})
	} else {
		err = unix.Bind(int(h), sockaddrOf(t.family, t.addrPort))
	}
	return t.explain(os.NewSyscallError("bind", err))
}

func listen(h handle, backlog int) error {
	return os.NewSyscallError("listen", unix.Listen(int(h), backlog))
}

// connect begins to connect. errInProgress: the attempt goes on by itself.
func connect(h handle, t *target) error {
	var err error
	if t.family == unixDomain {
		err = syscall.Connect(int(h), &syscall.SockaddrUnix{Name: t.path})
	} else {
		err = unix.Connect(int(h), sockaddrOf(t.family, t.addrPort))
	}
	switch err {
	case unix.EINPROGRESS, unix.EALREADY, unix.EINTR: // an interrupted attempt goes on too
		return errInProgress
	}
	return t.explain(os.NewSyscallError("connect", err))
}

// pathSize is the size of a path in an address of the system, with the NUL at its end.
const pathSize = len(syscall.RawSockaddrUnix{}.Path)

// pendingError fetches the error of a connection attempt.
func pendingError(h handle) error {
	n, err := unix.GetsockoptInt(int(h), unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return os.NewSyscallError("getsockopt", err)
	case n == 0, syscall.Errno(n) == unix.EINPROGRESS:
		return nil
	}
	return os.NewSyscallError("connect", syscall.Errno(n))
}

func isConnected(h handle) bool {
	_, err := unix.Getpeername(int(h))
	return err == nil
}

const errRefused = unix.ECONNREFUSED

func isNotConnected(err error) bool { return errors.Is(err, unix.ENOTCONN) }

func shutdownRead(h handle) error {
	return os.NewSyscallError("shutdown", unix.Shutdown(int(h), unix.SHUT_RD))
}

func shutdownWrite(h handle) error {
	return os.NewSyscallError("shutdown", unix.Shutdown(int(h), unix.SHUT_WR))
}
