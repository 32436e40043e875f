//go:build unix && !(aix || darwin)

package socket

import "golang.org/x/sys/unix"

// These systems set the flags of a new descriptor when they create it. No program that is
// started concurrently can inherit it, and no lock is needed.

const newFlags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK

func makeSocket(domain, kind int) (int, error) { return unix.Socket(domain, kind|newFlags, 0) }

func makePair() ([2]int, error) {
	return unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|newFlags, 0)
}

func makeDuplicate(fd int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
}
