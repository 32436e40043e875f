// Package tryio reads, writes and accepts without waiting, on sources that would otherwise
// wait: the connections and listeners of package net, an *os.File of a pipe, a terminal or
// a device, and an [epore.FD].
//
// A loop must not call the Read, Write and Accept methods of these sources. An event may be
// spurious, or another goroutine may have read the data first. Then the Read of a
// *net.TCPConn waits, and the loop stops. The functions of this package return
// [ErrWouldBlock] instead:
//
//	n, err := tryio.Read(conn, buf)
//	if err == tryio.ErrWouldBlock {
//		continue // wait for the next event
//	}
//
// They ignore the locks and deadlines of the source: they do not queue behind a Read of
// another goroutine, and they do not fail after a deadline. Any goroutine may call them.
//
// # What never waits
//
// Operations on sockets never wait, even if O_NONBLOCK is cleared. Only Accept, and on
// macOS Write, depend on the flag. Operations on other files never wait if the file is
// non-blocking, as pollable files of package os are. For a blocking file, such as os.Stdin,
// and for a blocking listener, they ask first whether it is ready. If another process takes
// the data or the connection in between, the operation waits, which blocks only the calling
// goroutine. A regular file is always ready, and may wait for its disk.
//
// # Systems
//
// The package works on every Unix and on Windows. On Windows it supports only sockets, and
// makes them non-blocking, which does not affect package net; for other sources it fails with
// [errors.ErrUnsupported]. On systems that package socket does not support, every call fails
// with this error.
package tryio

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"syscall"

	"github.com/epore/epore/internal/nilvalue"
	"github.com/epore/epore/socket"
)

// ErrWouldBlock reports that an operation has nothing to do now. It is the same value as
// [socket.ErrWouldBlock], and it is never wrapped.
var ErrWouldBlock = socket.ErrWouldBlock

// Read reads the available data, at most len(b) bytes. It returns ErrWouldBlock if no data
// is available, and io.EOF at the end of the stream. With edge-triggered interest, the next
// event is certain after ErrWouldBlock.
//
// From a datagram socket it reads one datagram, which may be empty. If the datagram is longer
// than b, it returns the beginning and [socket.ErrTruncated]; the rest is lost. So it does
// from a socket of the type SOCK_SEQPACKET, where an empty packet is like the end of the stream.
func Read(c syscall.Conn, b []byte) (int, error) {
	switch c := c.(type) {
	case *socket.Conn:
		if c != nil {
			return c.Read(b)
		}
	case *socket.PacketConn:
		if c != nil {
			return c.Read(b)
		}
	}
	return do("read", c, b, func(a *attempt) func(uintptr) { return a.read })
}

// Write writes as much of b as the system has room for. If that is less than len(b), it
// returns the number of bytes written and ErrWouldBlock: write the rest when the source is
// writable again. To a datagram socket it writes b, which may be empty, as one datagram, or
// writes nothing.
//
// Writing to a peer that is gone returns an error. It raises no signal, with one exception:
// a program that has subscribed to SIGPIPE (os/signal) receives it for a pipe and, where
// the system cannot suppress it, for a socket.
func Write(c syscall.Conn, b []byte) (int, error) {
	switch c := c.(type) {
	case *socket.Conn:
		if c != nil {
			return c.Write(b)
		}
	case *socket.PacketConn:
		if c != nil {
			return c.Write(b)
		}
	}
	return do("write", c, b, func(a *attempt) func(uintptr) { return a.write })
}

// Accept returns the next connection of a listener as a [socket.Conn], or ErrWouldBlock if no
// connection waits. To get a net.Conn, call [socket.Conn.NetConn]. For what to do when
// descriptors run out, see [socket.Listener.Accept].
func Accept(l syscall.Conn) (*socket.Conn, error) {
	if l, ok := l.(*socket.Listener); ok && l != nil {
		return l.Accept()
	}
	var c *socket.Conn
	_, err := do("accept", l, nil, func(a *attempt) func(uintptr) {
		return func(fd uintptr) { c, a.err = accept(fd) }
	})
	if err != nil {
		return nil, err
	}
	if _, ok := c.LocalAddr().(*net.TCPAddr); ok {
		_ = c.SetNoDelay(true) // fails for one that is reset already, which reading tells
	}
	return c, nil
}

// attempt is one operation. It is reused together with its functions, because a closure for
// each operation would be allocated.
type attempt struct {
	b           []byte
	n           int
	err         error
	read, write func(fd uintptr)
	memory      //lint:ignore U1000 what the system is given; some need nothing
}

var attempts = sync.Pool{New: func() any {
	a := new(attempt)
	a.read = func(fd uintptr) { a.n, a.err = a.tryRead(fd) }
	a.write = func(fd uintptr) { a.n, a.err = a.tryWrite(fd) }
	return a
}}

// do runs an operation on the descriptor of c. It uses Control, because Read and Write of a
// syscall.RawConn wait for other goroutines, and fail after a deadline.
func do(op string, c syscall.Conn, b []byte, which func(*attempt) func(uintptr)) (int, error) {
	if nilvalue.Is(c) {
		return 0, fmt.Errorf("tryio: %s: nil source: %w", op, fs.ErrInvalid)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, failed(op, c, err)
	}
	a := attempts.Get().(*attempt)
	a.b = b
	err = raw.Control(which(a))
	n := a.n
	if err == nil {
		err = a.err
	}
	a.b, a.n, a.err = nil, 0, nil
	attempts.Put(a)
	switch {
	case err == nil, err == ErrWouldBlock, err == io.EOF, err == socket.ErrTruncated:
		return n, err
	}
	return n, failed(op, c, err)
}

// failed wraps the error of an operation on c with the operation and the source.
func failed(op string, c syscall.Conn, err error) error {
	switch c := c.(type) {
	case interface{ Name() string }:
		return &fs.PathError{Op: op, Path: c.Name(), Err: err}
	case interface{ String() string }:
		return fmt.Errorf("%s %s: %w", op, c, err)
	case net.Conn:
		e := &net.OpError{Op: op, Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
		if e.Source != nil {
			e.Net = e.Source.Network()
		}
		return e
	case net.Listener:
		return &net.OpError{Op: op, Net: c.Addr().Network(), Addr: c.Addr(), Err: err}
	}
	return fmt.Errorf("%s %T: %w", op, c, err)
}
