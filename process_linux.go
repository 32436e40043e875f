package epore

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// openProcess returns a pidfd, which is readable when the process has ended: see
// pidfd_open(2). It needs Linux 5.3. Containers may forbid it, and on Android that
// ends the program.
func openProcess(pid int) (fd int, err error) {
	if runtime.GOOS == "android" {
		return -1, fmt.Errorf("pidfd_open is not allowed on Android: %w", errors.ErrUnsupported)
	}
	fd, err = unix.PidfdOpen(pid, 0)
	switch err {
	case nil:
		return fd, nil
	case unix.ESRCH:
		return -1, fmt.Errorf("%w: %w", os.ErrProcessDone, err)
	case unix.ENOSYS, unix.EPERM:
		return -1, fmt.Errorf("the kernel refuses pidfd_open: %w: %w", err, errors.ErrUnsupported)
	}
	return -1, fmt.Errorf("pidfd_open: %w", err)
}

// childEnded reports whether a child has ended, and leaves it to be waited for.
func childEnded(pid int) (ended bool, err error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return info.Signo != 0, err
		}
	}
}
