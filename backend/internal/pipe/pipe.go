//go:build unix

// Package pipe provides a pipe that wakes a queue, for systems without a better means.
package pipe

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/unixfd"
)

// Pipe holds the descriptors of the two ends of a pipe.
type Pipe struct{ Reader, Writer int }

// Open returns a pipe whose ends are non-blocking and closed on exec. Not every system can
// create it so in one call. The lock keeps package os from starting programs in between.
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

// Write writes one byte. A full pipe is not an error: its reader has been woken.
func (p *Pipe) Write() error {
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

// Drain reads everything that was written before the call.
func (p *Pipe) Drain() {
	var buf [512]byte
	for {
		n, err := unix.Read(p.Reader, buf[:])
		if err != unix.EINTR && n < len(buf) {
			return
		}
	}
}

// Has reports whether h is an end of the pipe.
func (p *Pipe) Has(h backend.Handle) bool {
	return h == backend.Handle(p.Reader) || h == backend.Handle(p.Writer)
}

// Close closes both ends. Later calls do not use their numbers, which may have another
// owner.
func (p *Pipe) Close() error {
	err := errors.Join(unixfd.Close(p.Reader), unixfd.Close(p.Writer))
	*p = Pipe{-1, -1}
	return err
}
