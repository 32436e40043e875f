package socket

import (
	"errors"
	"fmt"
	"io"
	"net"
)

// ErrWouldBlock is returned by an operation that finds nothing to do now: nothing
// to read, no room to write, nobody to accept. It is this very value, never wrapped,
// and costs nothing:
//
//	n, err := conn.Read(buf)
//	if err == socket.ErrWouldBlock {
//		continue // wait for the next event
//	}
//
// It is syscall.EAGAIN too (errors.Is), and a net.Error that is a time-out, as EAGAIN
// is in package syscall.
var ErrWouldBlock error = &wouldBlockError{"socket: the operation would block"}

type wouldBlockError struct{ text string }

func (e *wouldBlockError) Error() string   { return e.text }
func (e *wouldBlockError) Unwrap() error   { return errAgain }
func (e *wouldBlockError) Timeout() bool   { return true }
func (e *wouldBlockError) Temporary() bool { return true }

// ErrTruncated is returned, never wrapped, with the beginning of a datagram whose rest
// is lost, because the buffer was too short. It is io.ErrShortBuffer too.
var ErrTruncated = fmt.Errorf("socket: the datagram is longer than the buffer, its rest is lost: %w", io.ErrShortBuffer)

// failed is the error of an operation on b: what was attempted, on what, and why.
// Between Acquire and Release.
func (b *base) failed(op string, err error) error {
	h := b.own().Handle()
	e := &net.OpError{Op: op, Net: b.proto.String(), Source: localName(h, b.proto), Addr: remoteName(h, b.proto), Err: err}
	if e.Addr == nil { // as in package net: what it listens on
		e.Source, e.Addr = nil, e.Source
	}
	return e
}

// closed is the error of an operation on a closed socket.
func (b *base) closed(op string) error {
	return &net.OpError{Op: op, Net: b.proto.String(), Err: net.ErrClosed}
}

// refused is the error of an address that cannot be used.
func refused(op, network, address, why string) error {
	return &net.OpError{Op: op, Net: network, Err: &net.AddrError{Err: why, Addr: address}}
}

// errInProgress says that a connection is being made.
var errInProgress = errors.New("socket: connecting")
