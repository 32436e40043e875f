package socket

import (
	"math"

	"golang.org/x/sys/unix"
)

// DragonFly takes these times in milliseconds.

func setKeepAliveIdle(h handle, seconds int) error {
	return setInt(h, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, min(seconds, math.MaxInt32/1000)*1000)
}

func setKeepAliveInterval(h handle, seconds int) error {
	return setInt(h, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, min(seconds, math.MaxInt32/1000)*1000)
}

func setKeepAliveCount(h handle, n int) error {
	return setInt(h, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, n)
}
