//go:build !unix

package process

import (
	"errors"
	"fmt"
	"runtime"
)

// noSignal is a signal that cannot be sent. The attempt tells whether the process exists.
const noSignal = unsent("no signal")

type unsent string

func (unsent) Signal()          {}
func (s unsent) String() string { return string(s) }

// Exists reports whether a process has the number pid, including one that has ended but was
// not waited for. Here, such a process does not exist for the kernel.
func Exists(int) bool { return false }

// Open returns a descriptor that becomes readable when the process has ended. This system
// has none.
func Open(int) (fd int, err error) {
	return -1, fmt.Errorf("%s has no descriptors for processes: %w", runtime.GOOS, errors.ErrUnsupported)
}

// Close closes a descriptor that Open returned.
func Close(int) error { return nil }

// WatchChild calls ended when a child has ended. This system has no SIGCHLD.
func WatchChild(pid int, ended func()) (stop func(), err error) {
	return nil, fmt.Errorf("%s has no SIGCHLD: %w", runtime.GOOS, errors.ErrUnsupported)
}
