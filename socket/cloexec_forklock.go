//go:build aix || darwin

package socket

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// Here a new descriptor gets its flags afterwards. Until it has them, ForkLock keeps
// others from starting programs, which would inherit it.

func makeSocket(domain, kind int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(domain, kind, 0)
	return prepared(fd, err)
}

func makePair() (fds [2]int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); err != nil {
		return fds, err
	}
	_, err = prepared(fds[0], nil)
	if err != nil {
		return fds, errors.Join(err, unix.Close(fds[1]))
	}
	if _, err = prepared(fds[1], nil); err != nil {
		return fds, errors.Join(err, unix.Close(fds[0]))
	}
	return fds, nil
}

func makeDuplicate(fd int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Dup(fd)
	return prepared(fd, err)
}

func acceptOne(listener int) (int, error) {
	syscall.ForkLock.RLock() // not for long: the listener does not block
	defer syscall.ForkLock.RUnlock()
	fd, _, err := syscall.Accept(listener)
	return prepared(fd, err)
}

// prepared gives fd its flags, or closes it.
func prepared(fd int, err error) (int, error) {
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}
