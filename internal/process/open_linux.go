package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Open returns a pidfd, which becomes readable when the process has ended: see
// pidfd_open(2). The caller closes it. It needs Linux 5.3. Containers may forbid it, and on
// Android the attempt would end the program.
func Open(pid int) (fd int, err error) {
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

// childEnded reports whether a child has ended. The child can still be waited for.
func childEnded(pid int) (ended bool, err error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return info.Signo != 0, err
		}
	}
}
