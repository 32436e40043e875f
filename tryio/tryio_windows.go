package tryio

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/epore/epore/socket"
)

// Winsock, without overlapped operations. The sockets of package net are in blocking mode,
// since it uses overlapped operations, which do not care; so each attempt changes the mode.

type memory struct{}

const (
	fionbio = 0x8004667e
	soType  = 0x1008
	// sendMost is how much one call sends: Winsock may take all of it into its memory.
	sendMost = 1 << 20
)

var procAccept = windows.NewLazySystemDLL("ws2_32.dll").NewProc("accept")

// prepare makes fd non-blocking.
func prepare(fd uintptr) error {
	var yes, n uint32 = 1, 0
	err := windows.WSAIoctl(windows.Handle(fd), fionbio, (*byte)(unsafe.Pointer(&yes)), 4, nil, 0, &n, nil, 0)
	return told("ioctlsocket", err)
}

// told is the error of a call.
func told(call string, err error) error {
	switch err {
	case nil:
		return nil
	case windows.WSAEWOULDBLOCK:
		return ErrWouldBlock
	case windows.WSAENOTSOCK, windows.WSAEOPNOTSUPP: // the latter is what Wine says
		return fmt.Errorf("not a socket: %w", errors.ErrUnsupported)
	}
	return os.NewSyscallError(call, err)
}

func buffer(b []byte) windows.WSABuf {
	return windows.WSABuf{Len: uint32(len(b)), Buf: unsafe.SliceData(b)}
}

func (a *attempt) tryRead(fd uintptr) (int, error) {
	if err := prepare(fd); err != nil || len(a.b) == 0 && !isDatagram(fd) {
		return 0, err
	}
	buf := buffer(a.b[:min(len(a.b), 1<<30)])
	var n, flags uint32
	err := windows.WSARecv(windows.Handle(fd), &buf, 1, &n, &flags, nil, nil)
	switch {
	case err == windows.WSAEMSGSIZE:
		return len(a.b), socket.ErrTruncated
	case err != nil:
		return 0, told("WSARecv", err)
	case n == 0 && !isDatagram(fd):
		return 0, io.EOF
	}
	return int(n), nil
}

func (a *attempt) tryWrite(fd uintptr) (done int, err error) {
	if err := prepare(fd); err != nil || len(a.b) == 0 && !isDatagram(fd) {
		return 0, err
	}
	for {
		buf := buffer(a.b[done:min(len(a.b), done+sendMost)])
		var n uint32
		if err := windows.WSASend(windows.Handle(fd), &buf, 1, &n, 0, nil, nil); err != nil {
			return done, told("WSASend", err)
		}
		if done += int(n); done == len(a.b) {
			return done, nil
		}
	}
}

// isDatagram reports whether fd has datagrams, of which an empty one is no end.
func isDatagram(fd uintptr) bool {
	kind, err := windows.GetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soType)
	return err == nil && kind != windows.SOCK_STREAM
}

// accept accepts one connection.
func accept(listener uintptr) (*socket.Conn, error) {
	if err := prepare(listener); err != nil {
		return nil, err
	}
	for {
		fd, _, err := procAccept.Call(listener, 0, 0)
		if windows.Handle(fd) == windows.InvalidHandle {
			if err == windows.WSAECONNRESET { // was given up by the peer
				continue
			}
			return nil, told("accept", err)
		}
		s, err := socket.FromFD(fd)
		if err != nil {
			_ = windows.Closesocket(windows.Handle(fd))
			return nil, err
		}
		if c, ok := s.(*socket.Conn); ok {
			return c, nil
		}
		_ = s.Close()
		return nil, fmt.Errorf("accepted a %T: %w", s, errors.ErrUnsupported)
	}
}
