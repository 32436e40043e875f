package socket

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/windows"
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
	return os.NewSyscallError("setsockopt", windows.SetsockoptInt(windows.Handle(h), level, option, n))
}

func setNoDelay(h handle, on bool) error {
	return setInt(h, windows.IPPROTO_TCP, windows.TCP_NODELAY, on)
}

func getNoDelay(h handle) (bool, error) {
	n, err := windows.GetsockoptInt(windows.Handle(h), windows.IPPROTO_TCP, windows.TCP_NODELAY)
	return n != 0, err
}

// setReuseAddr does nothing: on Windows an address is free again at once, and SO_REUSEADDR
// would let another program take the address while it is in use.
func setReuseAddr(handle) error { return nil }

// setMulticastReuse lets several sockets receive from the same group.
func setMulticastReuse(h handle) error {
	return setInt(h, windows.SOL_SOCKET, windows.SO_REUSEADDR, true)
}

func setReusePort(handle) error { return errNoOption("SO_REUSEPORT") }

func setBroadcast(h handle) error {
	return setInt(h, windows.SOL_SOCKET, windows.SO_BROADCAST, true)
}

func setReadBuffer(h handle, bytes int) error {
	return setInt(h, windows.SOL_SOCKET, windows.SO_RCVBUF, bytes)
}

func setWriteBuffer(h handle, bytes int) error {
	return setInt(h, windows.SOL_SOCKET, windows.SO_SNDBUF, bytes)
}

func setLinger(h handle, seconds int) error {
	l := windows.Linger{}
	if seconds >= 0 {
		l.Onoff, l.Linger = 1, int32(min(seconds, math.MaxUint16)) // the option has 16 bits
	}
	return os.NewSyscallError("setsockopt", windows.SetsockoptLinger(windows.Handle(h), windows.SOL_SOCKET, windows.SO_LINGER, &l))
}

func setKeepAlive(h handle, on bool) error {
	return setInt(h, windows.SOL_SOCKET, windows.SO_KEEPALIVE, on)
}

// setTime sets an option that exists since Windows 10, version 1709.
func setTime(h handle, option, value int) error {
	err := setInt(h, windows.IPPROTO_TCP, option, value)
	if errors.Is(err, windows.WSAENOPROTOOPT) {
		return fmt.Errorf("%w (%w)", errUnsupported, err)
	}
	return err
}

func setKeepAliveIdle(h handle, seconds int) error {
	return setTime(h, windows.TCP_KEEPIDLE, seconds)
}

func setKeepAliveInterval(h handle, seconds int) error {
	return setTime(h, windows.TCP_KEEPINTVL, seconds)
}

func setKeepAliveCount(h handle, n int) error {
	return setTime(h, windows.TCP_KEEPCNT, n)
}
