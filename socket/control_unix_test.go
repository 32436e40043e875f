//go:build unix

package socket_test

import "golang.org/x/sys/unix"

// localPort is the port that a socket is bound to; 0: it is not bound.
func localPort(fd uintptr) int {
	switch sa, _ := unix.Getsockname(int(fd)); sa := sa.(type) {
	case *unix.SockaddrInet4:
		return sa.Port
	case *unix.SockaddrInet6:
		return sa.Port
	}
	return 0
}

func clearNoDelay(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 0)
}

func hasNoDelay(fd int) bool {
	n, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
	return err == nil && n != 0
}
