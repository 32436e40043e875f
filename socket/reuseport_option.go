//go:build aix || darwin || dragonfly || linux || netbsd || openbsd

package socket

import "golang.org/x/sys/unix"

func setReusePort(h handle) error { return setInt(h, unix.SOL_SOCKET, unix.SO_REUSEPORT, true) }
