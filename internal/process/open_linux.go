package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/android"
)

// Open returns a pidfd, which becomes readable when the process has ended: see
// pidfd_open(2). The caller closes it. It needs Linux 5.3. Containers may forbid it, and on
// Android the attempt would end the program.
func Open(pid int) (fd int, err error) {
	if android.Filtered() {
		return -1, fmt.Errorf("pidfd_open may not be allowed on Android: %w", errors.ErrUnsupported)
	}
	fd, err = unix.PidfdOpen(pid, 0)
	switch err {
	case nil:
		return fd, nil
	case unix.ESRCH:
		return -1, fmt.Errorf("%w: %w", os.ErrProcessDone, err)
	case unix.EMFILE, unix.ENFILE, unix.ENOMEM:
		return -1, fmt.Errorf("pidfd_open: %w", err)
	}
	// The kernel refuses the ID of a thread with EINVAL or, since Linux 6.15, ENOENT. A
	// filter may answer with any error.
	if isThread(pid) {
		return -1, errThread
	}
	return -1, fmt.Errorf("the kernel refuses pidfd_open: %w: %w", err, errors.ErrUnsupported)
}

var errThread = fmt.Errorf("it is the ID of a thread, not of a process: %w", fs.ErrInvalid)

// isThread reports whether pid is the ID of a thread other than the first one of its
// process. kill(2) and /proc take such an ID for the process.
func isThread(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(status) {
		if group, ok := bytes.CutPrefix(line, []byte("Tgid:")); ok {
			n, err := strconv.Atoi(string(bytes.TrimSpace(group)))
			return err == nil && n != pid
		}
	}
	return false
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
