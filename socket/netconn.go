package socket

import (
	"errors"
	"net"
	"time"
)

// NetConn hands a connection to package net for good, for a goroutine that reads and writes
// it and may wait: the way back from [FromConn]. On success c is closed, as by its Close; the
// net.Conn has the connection under another descriptor number, with what the system has
// buffered. It is a *net.TCPConn, with no-delay and keep-alive as package net sets them, or a
// *net.UnixConn.
//
// After a failure c is as it was. While c is still connecting, or has bytes of
// [Conn.SpliceFrom] that it had no room for, that is ErrWouldBlock. A Conn of a family that
// package net does not know is refused.
func (c *Conn) NetConn() (net.Conn, error) {
	if err := c.ConnectError(); err != nil {
		return nil, err
	}
	if c.SplicePending() > 0 {
		return nil, ErrWouldBlock
	}
	f, err := c.File()
	if err != nil {
		return nil, err
	}
	taken, err := net.FileConn(f)
	if err := errors.Join(err, f.Close()); err != nil {
		if taken != nil {
			_ = taken.Close()
		}
		return nil, c.refuse("hand over", err)
	}
	if err := c.Close(); err != nil { // somebody else was closing it
		_ = taken.Close()
		return nil, err
	}
	return taken, nil
}

// refuse is the error of an operation that ended outside of Acquire and Release.
func (c *Conn) refuse(op string, err error) error {
	return c.do(op, func(handle) error { return err })
}

// NoDeadlines makes a net.Conn of a Conn, for code that asks for the interface and reads and
// writes without waiting: deadlines that are set do nothing. Read and Write are those of the
// Conn, and so is ErrWouldBlock.
//
//	var c net.Conn = socket.NoDeadlines{Conn: conn}
type NoDeadlines struct{ *Conn }

var _ net.Conn = NoDeadlines{}

// SetDeadline does nothing, unless the Conn is closed.
func (c NoDeadlines) SetDeadline(time.Time) error {
	return c.do("set", func(handle) error { return nil })
}

// SetReadDeadline does nothing, unless the Conn is closed.
func (c NoDeadlines) SetReadDeadline(t time.Time) error { return c.SetDeadline(t) }

// SetWriteDeadline does nothing, unless the Conn is closed.
func (c NoDeadlines) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }
