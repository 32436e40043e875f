package socket_test

import "golang.org/x/sys/windows"

// localPort is the port that a socket is bound to; 0: it is not bound.
func localPort(fd uintptr) int {
	switch sa, _ := windows.Getsockname(windows.Handle(fd)); sa := sa.(type) {
	case *windows.SockaddrInet4:
		return sa.Port
	case *windows.SockaddrInet6:
		return sa.Port
	}
	return 0
}

func clearNoDelay(fd uintptr) error {
	return windows.SetsockoptInt(windows.Handle(fd), windows.IPPROTO_TCP, windows.TCP_NODELAY, 0)
}

func hasNoDelay(fd int) bool {
	n, err := windows.GetsockoptInt(windows.Handle(fd), windows.IPPROTO_TCP, windows.TCP_NODELAY)
	return err == nil && n != 0
}
