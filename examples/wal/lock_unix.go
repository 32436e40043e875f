//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock locks the log for this process, or fails. It is a lock of fcntl(2), which ends with the
// process: one of flock(2) lasts until an io_uring of the process has ended, too.
func lock(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: 0})
}
