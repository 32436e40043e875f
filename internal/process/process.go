// Package process has the ways to learn of the end of a process that need no event queue of
// their own: a descriptor that becomes readable, and SIGCHLD.
//
// Its errors unwrap to os.ErrProcessDone if no such process exists or it has ended, and to
// errors.ErrUnsupported where the system does not support the way.
package process

import (
	"errors"
	"os"
	"syscall"
)

// WaitedFor reports whether a Wait for p has returned. Then p no longer has its number. On
// Windows a process that was released looks the same.
func WaitedFor(p *os.Process) bool {
	err := p.Signal(noSignal)
	return errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.EINVAL)
}
