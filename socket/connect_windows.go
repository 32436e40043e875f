package socket

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

func bind(h handle, t *target) error {
	return t.explain(os.NewSyscallError("bind", windows.Bind(windows.Handle(h), t.sockaddr())))
}

func listen(h handle, backlog int) error {
	return os.NewSyscallError("listen", windows.Listen(windows.Handle(h), backlog))
}

// connect begins to connect. errInProgress: the attempt goes on by itself.
func connect(h handle, t *target) error {
	err := windows.Connect(windows.Handle(h), t.sockaddr())
	if err == windows.WSAEWOULDBLOCK {
		return errInProgress
	}
	return t.explain(os.NewSyscallError("connect", err))
}

// pathSize is the size of a path in an address of the system, with the NUL at its end.
const pathSize = len(windows.RawSockaddrUnix{}.Path)

// pendingError fetches the error of a connection attempt.
func pendingError(h handle) error {
	const soError = 0x1007
	n, err := windows.GetsockoptInt(windows.Handle(h), windows.SOL_SOCKET, soError)
	switch {
	case err != nil:
		return os.NewSyscallError("getsockopt", err)
	case n == 0:
		return nil
	}
	return os.NewSyscallError("connect", syscall.Errno(n))
}

func isConnected(h handle) bool {
	_, err := windows.Getpeername(windows.Handle(h))
	return err == nil
}

const errRefused = windows.WSAECONNREFUSED

func isNotConnected(err error) bool { return errors.Is(err, windows.WSAENOTCONN) }

func shutdownRead(h handle) error {
	return os.NewSyscallError("shutdown", windows.Shutdown(windows.Handle(h), windows.SHUT_RD))
}

func shutdownWrite(h handle) error {
	return os.NewSyscallError("shutdown", windows.Shutdown(windows.Handle(h), windows.SHUT_WR))
}
