package socket

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"

	"github.com/epore/epore/internal/simfd"
)

// ErrWouldBlock is returned by an operation that can do nothing now: no data to read, no
// room to write, no connection to accept. Operations return this very value, never wrapped,
// so that it can be compared, and so that it allocates nothing:
//
//	n, err := conn.Read(buf)
//	if err == socket.ErrWouldBlock {
//		continue // wait for the next event
//	}
//
// It matches syscall.EAGAIN with errors.Is. It is also a net.Error that reports a timeout,
// as EAGAIN does in package syscall.
var ErrWouldBlock error = &wouldBlockError{"socket: operation would block"}

type wouldBlockError struct{ text string }

func (e *wouldBlockError) Error() string   { return e.text }
func (e *wouldBlockError) Unwrap() error   { return errAgain }
func (e *wouldBlockError) Timeout() bool   { return true }
func (e *wouldBlockError) Temporary() bool { return true }

// ErrTruncated is returned, never wrapped, together with the beginning of a datagram that
// is longer than the buffer. The rest of the datagram is lost. It matches io.ErrShortBuffer
// with errors.Is.
var ErrTruncated = fmt.Errorf("socket: datagram longer than the buffer, its rest is lost: %w", io.ErrShortBuffer)

// failed returns the error of an operation on b: what was attempted, on what, and why.
// Called between Acquire and Release.
func (b *base) failed(op string, err error) error {
	h := b.descriptor().Handle()
	e := &net.OpError{Op: op, Net: b.proto.String(), Source: localAddress(h, b.proto), Addr: remoteAddress(h, b.proto), Err: err}
	if e.Addr == nil && !simfd.Is(h) {
		e.Addr = lostPeer(b, h)
	}
	if e.Addr == nil { // as in package net: the address that it listens on
		e.Source, e.Addr = nil, e.Source
	}
	return e
}

// closed returns the error of an operation on a closed socket, or on a zero value.
func (b *base) closed(op string) error {
	if b.proto == unopened {
		return &net.OpError{Op: op, Err: errZeroValue}
	}
	return &net.OpError{Op: op, Net: b.proto.String(), Err: net.ErrClosed}
}

var errZeroValue = fmt.Errorf("zero value: open it with Listen, Dial or another function of package socket: %w", net.ErrClosed)

// addressError returns the error of an address that cannot be used.
func addressError(op, network, address, why string) error {
	return &net.OpError{Op: op, Net: network, Err: &net.AddrError{Err: why, Addr: address}}
}

var errNilBuffers = fmt.Errorf("nil buffers: %w", fs.ErrInvalid)

// errInProgress says that a connection attempt has not ended.
var errInProgress = errors.New("socket: connection in progress")
