package socket

import (
	"errors"
	"net"
	"time"
)

// NetConn hands the connection to package net for good, for a goroutine that may wait. It is
// the reverse of [FromConn]. On success c is closed, as by [Conn.Close]. The connection itself
// stays open under a new descriptor number, with the data that the system has buffered. The
// result is a *net.TCPConn, with no-delay and keep-alive as package net sets them, or a
// *net.UnixConn.
//
// On failure c is unchanged. NetConn fails with ErrWouldBlock while c is connecting, and
// while [Conn.SplicePending] is not zero. It fails for families that package net does not
// know.
func (c *Conn) NetConn() (net.Conn, error) {
	if err := c.refuse("hand over", nil); err != nil { // closed
		return nil, err
	}
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

// refuse wraps the error of an operation, outside of Acquire and Release. If c is closed, that is
// the error.
func (c *Conn) refuse(op string, err error) error {
	return c.do(op, func(handle) error { return err })
}

// NoDeadlines makes a net.Conn of a Conn, for code that needs the interface and copes with
// ErrWouldBlock. Setting deadlines has no effect. All other methods are those of the Conn.
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
