// Package android reports whether Android's filter of system calls may be in force.
//
// The filter ends a process that makes a system call which apps may not use, by SIGSYS, so
// there is no error to react to: such a call must not be tried. The calls that this module
// could do without, and that the filter of some version does not allow, are epoll_pwait2 (up
// to Android 13), pidfd_open (up to Android 11) and io_uring_setup.
package android

import (
	"os"
	"runtime"
	"sync"
)

// Filtered reports whether this process may run under Android's filter. Tests that install
// such a filter on another system replace it.
var Filtered = sync.OnceValue(func() bool { return filtered(runtime.GOOS, appProcess) })

// appProcess is the program that becomes an app, on every Android.
const appProcess = "/system/bin/app_process"

// filtered recognizes programs for Android, and programs for Linux that an app runs, as
// terminal apps do.
func filtered(goos, appProcess string) bool {
	if goos == "android" {
		return true
	}
	_, err := os.Stat(appProcess)
	return goos == "linux" && err == nil
}
