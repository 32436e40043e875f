//go:build aix || freebsd || linux || netbsd || solaris

package socket

import "golang.org/x/sys/unix"

func setKeepAliveIdle(h handle, seconds int) error {
	return setInt(h, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds)
}

func setKeepAliveInterval(h handle, seconds int) error {
	return setInt(h, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds)
}

func setKeepAliveCount(h handle, n int) error {
	return setInt(h, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, n)
}
