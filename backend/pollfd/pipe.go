//go:build unix

package pollfd

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// pipe wakes a poll: whatever Unix it is, and so the same everywhere.
type pipe struct{ reader, writer int }

// openPipe makes both ends non-blocking, and such that no child inherits them:
// not all systems can make it so at once, hence the lock.
func openPipe() (pipe, error) {
	var fds [2]int
	syscall.ForkLock.RLock()
	err := unix.Pipe(fds[:])
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return pipe{}, err
	}
	p := pipe{fds[0], fds[1]}
	if err := errors.Join(unix.SetNonblock(p.reader, true), unix.SetNonblock(p.writer, true)); err != nil {
		return pipe{}, errors.Join(err, p.close())
	}
	return p, nil
}

// write puts one byte in. A pipe that is full has woken its reader already.
func (p pipe) write() error {
	for {
		switch _, err := unix.Write(p.writer, []byte{0}); err {
		case nil, unix.EAGAIN:
			return nil
		case unix.EINTR:
		default:
			return fmt.Errorf("write to the pipe: %w", err)
		}
	}
}

// drain takes all out that was put in before.
func (p pipe) drain() {
	var buf [512]byte
	for {
		n, err := unix.Read(p.reader, buf[:])
		if err != unix.EINTR && n < len(buf) {
			return
		}
	}
}

func (p pipe) has(h backend.Handle) bool {
	return h == backend.Handle(p.reader) || h == backend.Handle(p.writer)
}

func (p pipe) close() error { return errors.Join(unix.Close(p.reader), unix.Close(p.writer)) }
