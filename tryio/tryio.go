// Package tryio reads, writes and accepts without waiting, on anything that a Poll watches
// and that waits by itself: the connections and listeners of package net, an *os.File of a
// pipe, a terminal or a device, an [epore.FD].
//
// A loop must not call their own methods. An event may be spurious, or another goroutine may
// have read what it was about; then the Read of a *net.TCPConn waits, and the loop stands
// still. The functions of this package return [ErrWouldBlock] instead:
//
//	n, err := tryio.Read(conn, buf)
//	if err == tryio.ErrWouldBlock {
//		continue // wait for the next event
//	}
//
// They pass over the locks and deadlines of the source: they do not queue behind a Read of
// another goroutine, and a deadline that has passed is nothing to them. Any goroutine may
// call them.
//
// # What never waits
//
// Sockets never wait, whatever mode their descriptors are in. Other files never wait if
// they are non-blocking (O_NONBLOCK), as those are that package os has opened and that can
// be polled. A blocking one, such as os.Stdin, is asked first whether it is ready. If
// somebody else takes what there was in between, the operation waits; only its goroutine
// does so then. A regular file is always ready, and may wait for its disk.
//
// # Systems
//
// The package works on every Unix and on Windows. There, it works for sockets, and changes
// them to non-blocking mode, which package net does not notice; everything else is
// [errors.ErrUnsupported]. On systems where package socket does not work, everything is.
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

// ErrWouldBlock is returned by an operation that finds nothing to do now. It is
// [socket.ErrWouldBlock], this very value, and never wrapped.
var ErrWouldBlock = socket.ErrWouldBlock

// Read reads what there is, at most len(b) bytes. With nothing there it returns
// ErrWouldBlock, and at the end of the stream io.EOF. From a socket for datagrams it reads
// one of them, which may be empty; of one that is longer than b it returns the beginning,
// and [socket.ErrTruncated]. Edge-triggered, the next event is certain after ErrWouldBlock.
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

// Write writes what there is room for. If that is less than len(b), it returns how much, and
// ErrWouldBlock: write the rest when the source is writable again. To a socket for datagrams
// it writes one of them, which may be empty, or nothing. Writing to a peer that is gone is an
// error and never a signal, except that SIGPIPE reaches programs that have asked for it when
// what they write to is a pipe.
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

// Accept returns the next connection of a listener, as a [socket.Conn], which belongs to the
// loop: for one of package net, call its method [socket.Conn.NetConn]. With nobody to accept
// it returns ErrWouldBlock. Out of descriptors, see [socket.Listener.Accept].
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

// attempt is one operation. Its functions are made once, and it is used again: a closure
// for each operation would be allocated.
type attempt struct {
	b           []byte
	n           int
	err         error
	read, write func(fd uintptr)
	memory      // for the system
}

var attempts = sync.Pool{New: func() any {
	a := new(attempt)
	a.read = func(fd uintptr) { a.n, a.err = a.tryRead(fd) }
	a.write = func(fd uintptr) { a.n, a.err = a.tryWrite(fd) }
	return a
}}

// do has an operation done on the descriptor of c. It asks by Control: Read and Write of a
// syscall.RawConn wait for their turn, and fail once a deadline has passed.
func do(op string, c syscall.Conn, b []byte, which func(*attempt) func(uintptr)) (int, error) {
	if nilvalue.Is(c) {
		return 0, fmt.Errorf("tryio: %s: there is no source: %w", op, fs.ErrInvalid)
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

// failed is the error of an operation on c: what was attempted, on what, and why.
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
