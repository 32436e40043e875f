//go:build aix || darwin || dragonfly || linux || netbsd || openbsd

package socket

import (
	"runtime"

	"golang.org/x/sys/unix"
)

func setReusePort(h handle) error { return setInt(h, unix.SOL_SOCKET, unix.SO_REUSEPORT, true) }

// setMulticastReuse lets several sockets receive from the same group. Linux needs no
// SO_REUSEPORT, which would exclude sockets that lack it.
func setMulticastReuse(h handle) error {
	if err := setReuseAddr(h); err != nil || runtime.GOOS == "linux" {
		return err
	}
	return setReusePort(h)
}
