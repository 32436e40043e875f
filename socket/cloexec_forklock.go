//go:build aix || darwin

package socket

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// These systems set the flags of a new descriptor after they have created it. Until then,
// ForkLock keeps other goroutines from starting programs, which would inherit it.

func makeSocket(domain, kind int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(domain, kind, 0)
	return withFlags(fd, err)
}

func makePair() (fds [2]int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); err != nil {
		return fds, err
	}
	_, err = withFlags(fds[0], nil)
	if err != nil {
		return fds, errors.Join(err, unix.Close(fds[1]))
	}
	if _, err = withFlags(fds[1], nil); err != nil {
		return fds, errors.Join(err, unix.Close(fds[0]))
	}
	return fds, nil
}

func makeDuplicate(fd int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Dup(fd)
	return withFlags(fd, err)
}

func acceptOne(listener int) (int, error) {
	syscall.ForkLock.RLock() // not for long: a connection waits to be accepted
	defer syscall.ForkLock.RUnlock()
	fd, _, err := syscall.Accept(listener)
	return withFlags(fd, err)
}

// withFlags sets the flags of fd, or closes it.
func withFlags(fd int, err error) (int, error) {
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}
