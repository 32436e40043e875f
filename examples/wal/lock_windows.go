package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// lock locks the log for this process, or fails. It locks a byte far behind the end, because
// others cannot read what is locked.
func lock(f *os.File) error {
	const how = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	return windows.LockFileEx(windows.Handle(f.Fd()), how, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1 << 30})
}
