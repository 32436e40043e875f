//go:build unix && !(aix || darwin)

package socket

import "golang.org/x/sys/unix"

// Here the flags of a new descriptor are given where it is made, so that no program
// started meanwhile inherits it, and nothing has to be locked.

const newFlags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK

func makeSocket(domain, kind int) (int, error) { return unix.Socket(domain, kind|newFlags, 0) }

func makePair() ([2]int, error) {
	return unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|newFlags, 0)
}

func makeDuplicate(fd int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
}
