//go:build unix

package kq

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// errNoProcess is the error for a PID that no process has. Some kernels also report it
// for a process that has ended and was not reaped yet.
var errNoProcess = fmt.Errorf("%w: %w", os.ErrProcessDone, unix.ESRCH)

// WatchProcess has queue fd of k report the end of process pid once, with udata. The
// error is [os.ErrProcessDone] if there is no such process, or if it has ended and this
// system no longer watches it.
func WatchProcess(k Kernel, fd, pid int, udata uint32) error {
	if pid <= 0 || pid > math.MaxInt32 {
		return errNoProcess
	}
	change := Event{Ident: uint64(pid), Filter: k.System().Proc, Flags: Add | OneShot, Fflags: Exit, Udata: udata}
	switch _, err := k.Kevent(fd, []Event{change}, nil, 0); err {
	case nil, unix.EINTR: // a signal interrupts the call after the change was applied
		return nil
	case unix.ESRCH:
		return errNoProcess
	default:
		return err
	}
}

// OpenProcess returns a descriptor that becomes readable, for every kind of queue, when
// process pid has ended. It is a kqueue, and the caller closes it. Errors are those of
// [WatchProcess]. Where the system has no kqueue, the error is errors.ErrUnsupported.
func OpenProcess(pid int) (fd int, err error) {
	k := Native()
	if k == nil {
		return -1, fmt.Errorf("%s has no kqueue: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	return openProcess(k, pid)
}

func openProcess(k Kernel, pid int) (fd int, err error) {
	if fd, err = k.Kqueue(); err != nil {
		return -1, fmt.Errorf("kqueue: %w", err)
	}
	if err := WatchProcess(k, fd, pid, 0); err != nil {
		return -1, errors.Join(err, k.Close(fd))
	}
	return fd, nil
}
