//go:build unix

package socket

import (
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// setInt sets an option to a number or a boolean.
func setInt[T int | bool](h handle, level, option int, value T) error {
	n := 0
	switch v := any(value).(type) {
	case int:
		n = v
	case bool:
		if v {
			n = 1
		}
	}
	if int(int32(n)) != n {
		return errOptionRange(n) // the kernel would see other bits
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(h), level, option, n))
}

func setNoDelay(h handle, on bool) error { return setInt(h, unix.IPPROTO_TCP, unix.TCP_NODELAY, on) }
func getNoDelay(h handle) (bool, error) {
	n, err := unix.GetsockoptInt(int(h), unix.IPPROTO_TCP, unix.TCP_NODELAY)
	return n != 0, err
}

func setReuseAddr(h handle) error { return setInt(h, unix.SOL_SOCKET, unix.SO_REUSEADDR, true) }
func setBroadcast(h handle) error { return setInt(h, unix.SOL_SOCKET, unix.SO_BROADCAST, true) }

func setReadBuffer(h handle, bytes int) error {
	return setInt(h, unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
}

func setWriteBuffer(h handle, bytes int) error {
	return setInt(h, unix.SOL_SOCKET, unix.SO_SNDBUF, bytes)
}

func setKeepAlive(h handle, on bool) error {
	return setInt(h, unix.SOL_SOCKET, unix.SO_KEEPALIVE, on)
}

func setLinger(h handle, seconds int) error {
	l := unix.Linger{}
	if seconds >= 0 {
		l.Onoff, l.Linger = 1, int32(min(seconds, math.MaxInt32))
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptLinger(int(h), unix.SOL_SOCKET, unix.SO_LINGER, &l))
}
