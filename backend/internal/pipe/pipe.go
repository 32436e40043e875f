//go:build unix

// Package pipe wakes queues that have no means of their own.
package pipe

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// Pipe is a pipe, the same on every Unix.
type Pipe struct{ Reader, Writer int }

// Open makes both ends non-blocking, and such that no child inherits them:
// not all systems can make it so at once, hence the lock.
func Open() (Pipe, error) {
	var fds [2]int
	syscall.ForkLock.RLock()
	err := unix.Pipe(fds[:])
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return Pipe{}, err
	}
	p := Pipe{fds[0], fds[1]}
	if err := errors.Join(unix.SetNonblock(p.Reader, true), unix.SetNonblock(p.Writer, true)); err != nil {
		return Pipe{}, errors.Join(err, p.Close())
	}
	return p, nil
}

// Write puts one byte in. A pipe that is full has woken its reader already.
func (p Pipe) Write() error {
	for {
		switch _, err := unix.Write(p.Writer, []byte{0}); err {
		case nil, unix.EAGAIN:
			return nil
		case unix.EINTR:
		default:
			return fmt.Errorf("write to the pipe: %w", err)
		}
	}
}

// Drain takes all out that was put in before.
func (p Pipe) Drain() {
	var buf [512]byte
	for {
		n, err := unix.Read(p.Reader, buf[:])
		if err != unix.EINTR && n < len(buf) {
			return
		}
	}
}

// Has reports that h is one of its ends.
func (p Pipe) Has(h backend.Handle) bool {
	return h == backend.Handle(p.Reader) || h == backend.Handle(p.Writer)
}

// Close closes both ends.
func (p Pipe) Close() error { return errors.Join(unix.Close(p.Reader), unix.Close(p.Writer)) }
