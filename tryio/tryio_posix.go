//go:build unix && !linux

package tryio

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// memory is what the kernel is given pointers to.
type memory struct{ poll [1]unix.PollFd }

// pieceOfPipe is what a pipe that is ready for writing has room for: _POSIX_PIPE_BUF.
const pieceOfPipe = 512

// receive receives from a socket.
func (a *attempt) receive(fd uintptr) (n int, truncated bool, err error) {
	flags := 0
	n, err = again(func() (n int, err error) {
		n, _, flags, _, err = unix.Recvmsg(int(fd), a.b, nil, dontWait)
		return n, err
	})
	return n, flags&unix.MSG_TRUNC != 0, err
}

// send sends to the peer of a socket. Where no flag suppresses SIGPIPE, the Go runtime
// ignores the signal.
func (a *attempt) send(fd uintptr, b []byte) (int, error) {
	return again(func() (int, error) {
		return unix.SendmsgN(int(fd), b, nil, nil, dontWait|noSignal)
	})
}

// acceptFD accepts a connection. It holds ForkLock until the descriptor is close-on-exec, so
// that no program inherits it. A call that may wait does not hold the lock.
func acceptFD(listener uintptr) (int, error) {
	waits, ok := mayAccept(listener)
	if !ok {
		return -1, unix.EAGAIN
	}
	if !waits {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
	}
	fd, _, err := unix.Accept(int(listener))
	if err == nil {
		unix.CloseOnExec(fd)
	}
	return fd, err
}
