//go:build unix

package tryio

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/socket"
)

// tryRead reads from a descriptor. The kernel says whether it is a socket.
func (a *attempt) tryRead(fd uintptr) (int, error) {
	if len(a.b) == 0 && !isDatagram(fd) {
		return 0, nil
	}
	n, truncated, err := a.receive(fd)
	switch {
	case err == unix.ENOTSOCK:
		return a.readFile(fd)
	case err == unix.EAGAIN:
		return 0, ErrWouldBlock
	case err != nil:
		return 0, os.NewSyscallError("recvmsg", err)
	case truncated: // a datagram, or a packet of SOCK_SEQPACKET
		return n, socket.ErrTruncated
	case n == 0 && !isDatagram(fd):
		return 0, io.EOF
	}
	return n, nil
}

// tryWrite writes to a descriptor. The kernel says whether it is a socket.
func (a *attempt) tryWrite(fd uintptr) (done int, err error) {
	if len(a.b) == 0 && !isDatagram(fd) {
		return 0, nil
	}
	most := sendMost
	if len(a.b) > most && !isStream(fd) {
		most = len(a.b) // two writes would be two datagrams
	}
	for {
		n, err := a.send(fd, a.b[done:min(len(a.b), done+most)])
		switch {
		case err == unix.ENOTSOCK:
			return a.writeFile(fd)
		case err == unix.EAGAIN:
			return done, ErrWouldBlock
		case err != nil:
			return done, os.NewSyscallError("sendto", err)
		}
		if done += n; done == len(a.b) {
			return done, nil
		}
	}
}

// sendMost is how much one call sends of a stream.
const sendMost = 1 << 20

// isStream reports whether a descriptor is a socket without the boundaries of messages.
func isStream(fd uintptr) bool {
	kind, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && kind == unix.SOCK_STREAM
}

// isDatagram reports whether a descriptor is a datagram socket. For these, an empty read is
// an empty datagram, not the end.
func isDatagram(fd uintptr) bool {
	kind, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && kind != unix.SOCK_STREAM && kind != unix.SOCK_SEQPACKET
}

// readFile reads from a file that is not a socket. The read may wait, so it tells the
// scheduler.
func (a *attempt) readFile(fd uintptr) (int, error) {
	if !waitless(fd) && !a.ready(fd, false) {
		return 0, ErrWouldBlock
	}
	n, err := again(func() (int, error) { return unix.Read(int(fd), a.b) })
	switch {
	case err == unix.EAGAIN:
		return 0, ErrWouldBlock
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0 && len(a.b) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// writeFile writes to a file that is not a socket. A blocking pipe that is ready has room for
// a small piece; a larger write would wait until all of it is written.
func (a *attempt) writeFile(fd uintptr) (done int, err error) {
	for done < len(a.b) {
		rest := a.b[done:]
		if !waitless(fd) {
			if !a.ready(fd, true) {
				return done, ErrWouldBlock
			}
			rest = rest[:min(len(rest), pieceOfPipe)]
		}
		n, err := again(func() (int, error) { return unix.Write(int(fd), rest) })
		switch {
		case err == unix.EAGAIN:
			return done, ErrWouldBlock
		case err != nil:
			return done, os.NewSyscallError("write", err)
		}
		done += n
	}
	return done, nil
}

// waitless reports whether a descriptor is non-blocking.
func waitless(fd uintptr) bool {
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	return err != nil || flags&unix.O_NONBLOCK != 0 // after an error, the operation reports it
}

// ready asks poll(2) whether an operation would not wait. If poll fails, it returns true:
// the operation reports the error.
func (a *attempt) ready(fd uintptr, forWriting bool) bool {
	a.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	if forWriting {
		a.poll[0].Events = unix.POLLOUT
	}
	n, err := again(func() (int, error) { return unix.Poll(a.poll[:], 0) })
	return err != nil || n > 0
}

// again calls f for as long as a signal interrupts it.
func again(f func() (int, error)) (n int, err error) {
	for {
		if n, err = f(); err != unix.EINTR {
			return n, err
		}
	}
}

// accept accepts one connection.
func accept(listener uintptr) (*socket.Conn, error) {
	for {
		fd, err := acceptFD(listener)
		switch err {
		case nil:
		case unix.EAGAIN:
			return nil, ErrWouldBlock
		case unix.EINTR, unix.ECONNABORTED: // the latter: the peer gave it up
			continue
		default:
			return nil, os.NewSyscallError("accept", err)
		}
		s, err := socket.FromFD(fd)
		if err != nil {
			_ = unix.Close(fd)
			if errors.Is(err, errors.ErrUnsupported) {
				return nil, err
			}
			continue // some systems report no names of a connection that is reset already
		}
		if c, ok := s.(*socket.Conn); ok {
			return c, nil
		}
		_ = s.Close()
		return nil, fmt.Errorf("accepted a %T: %w", s, errors.ErrUnsupported)
	}
}

// mayAccept reports whether accept can be called: the listener is non-blocking, or a
// connection waits. waits: another process may take this connection first, and then accept
// waits.
func mayAccept(fd uintptr) (waits, ok bool) {
	if waitless(fd) {
		return false, true
	}
	var a attempt
	return true, a.ready(fd, false)
}
