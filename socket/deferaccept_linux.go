package socket

import "golang.org/x/sys/unix"

func setDeferAccept(h handle, seconds int) error {
	return setInt(h, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, seconds)
}
