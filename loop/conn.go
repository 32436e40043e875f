package loop

import (
	"bytes"
	"crypto/tls"
	"net"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
	"github.com/epore/epore/tlsconn"
)

// Conn is a connection of a Loop. All methods are for the goroutine of the loop.
type Conn struct {
	sock    *socket.Conn
	loop    *Loop
	handler Handler
	value   any
	tls     *tlsconn.Conn // nil: without TLS
	in      *buffer       // what was received and not used; nil: nothing
	out     *buffer       // what is to be sent; nil: nothing
	err     error         // what Close will be told

	last  time.Duration // when something was received or sent
	limit time.Duration // when it ends
	place int32         // in loop.due; below 0: not in it
	token uint32

	registered epore.Interest // 0: not registered
	state      state
	opened     bool // Open was called
	queued     bool // in loop.todo
	paused     bool // by the handler
	ended      bool // the peer has ended its half
	shut       bool // our half is to be ended
	shutDone   bool // and it was
	finDone    bool // below TLS, too
	more       bool // TLS has something to say that Read did not return yet
	blocked    bool // the system did not take everything: an event says when it does
	full       bool // Write returned ErrFull
	again      bool // Data is called again without new bytes
	deadline   bool // limit is that of SetDeadline
	deaf       bool // it cannot be watched while it is hushed: see hush
}

// state is how far a connection is. The order matters.
type state uint8

const (
	connecting state = iota
	shaking          // hands
	open
	closing // sends what is left, and waits for the peer's end
	dead    // closed; the handler is still to be told
	gone
)

const (
	// direct is how much is written directly rather than gathered with what follows.
	direct = 2 << 10
	// eager is how much is gathered at most before it is sent.
	eager = 64 << 10
)

// Write sends b. It takes all of b, or nothing and returns an error: [ErrFull] when b would
// make more than MaxOut bytes wait to be sent (with nothing waiting, any b is taken), or why
// the connection has ended. What was written leaves when the handler returns, or at the end
// of the batch of events, together with what else was written. b may be changed as soon as
// Write has returned.
//
// A handler that answers what it reads need not look at ErrFull as long as the answers to
// what arrives at once (64 KiB, and what was left unused) fit into half of MaxOut, because
// the loop does not read while as much waits to be sent.
func (c *Conn) Write(b []byte) (int, error) {
	l := c.loop
	switch {
	case c.state > open:
		return 0, errEnded
	case c.shut:
		return 0, errShut
	case len(b) == 0:
		return 0, nil
	}
	waiting := c.Buffered()
	if waiting > 0 && waiting+len(b) > l.cfg.MaxOut {
		c.full = true
		return 0, ErrFull
	}
	if c != l.current {
		l.later(c)
	}
	ready := c.state == open && !c.blocked
	if len(b) >= direct && ready && c.tls == nil {
		return l.writeDirect(c, b)
	}
	if c.out == nil {
		c.out = l.take()
	}
	c.out.add(b)
	if ready && c.out.len() >= eager {
		if l.flush(c); c.state == dead {
			return 0, c.err
		}
	}
	return len(b), nil
}

// Buffered returns how many bytes wait to be sent; with TLS as they go over the wire, as
// far as they are encrypted.
func (c *Conn) Buffered() (n int) {
	if c.out != nil {
		n = c.out.len()
	}
	if c.tls != nil {
		n += c.tls.Buffered()
	}
	return n
}

// Pause stops reading: Data is not called until Resume, and the peer is soon told by its own
// system to stop writing. The connection still hears of a reset.
func (c *Conn) Pause() { c.paused = true; c.touch() }

// Resume goes on reading. What Data had left unused comes first, without waiting for more,
// when the handler that calls Resume has returned.
func (c *Conn) Resume() {
	if c.paused {
		c.paused, c.again, c.deaf = false, true, false
		c.loop.later(c)
	}
}

// CloseWrite ends this half of the connection when everything that was written is sent. The
// peer then reads the end of the stream; with TLS, a close_notify. Reading goes on. Write
// fails from now on.
func (c *Conn) CloseWrite() { c.shut = true; c.touch() }

// Close ends the connection in order: what was written is sent, then this half is ended,
// and what the peer still sends is thrown away until it ends its half, too. For all this
// there is as much time as Grace. Data and EOF are not called any more; the Close of the
// handler is called when it is done.
func (c *Conn) Close() {
	if c.state > open {
		return
	}
	if c.state < open {
		c.die(ErrAborted)
		return
	}
	c.state, c.shut, c.paused = closing, true, false
	c.forget()
	c.limit = min(c.limit, clock()+c.loop.cfg.Grace)
	c.loop.schedule(c)
	c.touch()
}

// Abort ends the connection at once: what was not sent is thrown away, and the peer gets a
// reset. The Close of the handler is called with [ErrAborted] when the handler that calls
// Abort has returned.
func (c *Conn) Abort() {
	if c.state < dead {
		_ = c.sock.SetLinger(0) // fails for a Unix socket, which has no reset
		c.die(ErrAborted)
	}
}

// SetDeadline ends the connection at that time, whatever happens on it until then, with an
// error that is os.ErrDeadlineExceeded; the zero time takes that back. Before Open it
// replaces the limit of Dial or of the handshake, and holds for the connection as well. It
// costs no timer.
func (c *Conn) SetDeadline(t time.Time) {
	if c.state > open {
		return
	}
	c.limit = never
	if !t.IsZero() {
		now := time.Now()
		c.limit = now.Sub(began) + t.Sub(now)
	}
	c.deadline = true
	c.loop.schedule(c)
}

// Value returns what SetValue has set: nil at first.
func (c *Conn) Value() any { return c.value }

// SetValue keeps a value with the connection.
func (c *Conn) SetValue(v any) { c.value = v }

// Loop returns the loop that the connection belongs to.
func (c *Conn) Loop() *Loop { return c.loop }

// TLS returns what was agreed on with the peer, or nil for a connection without TLS. Before
// Open it is the zero value.
func (c *Conn) TLS() *tls.ConnectionState {
	if c.tls == nil {
		return nil
	}
	s := c.tls.ConnectionState()
	return &s
}

// LocalAddr returns the local address, asked of the system at each call. It is nil when the
// connection has ended.
func (c *Conn) LocalAddr() net.Addr { return c.sock.LocalAddr() }

// RemoteAddr returns the address of the peer, as LocalAddr does. A program that wants to log
// it in Close asks in Open.
func (c *Conn) RemoteAddr() net.Addr { return c.sock.RemoteAddr() }

// Detach takes the connection out of the loop: nothing is called any more, not even Close,
// and the socket belongs to the caller. in is what was received and not used; inside Data,
// it is all that Data was called with, of which the caller knows how much it has used. out
// is what was written and not sent. Both are the caller's.
//
// It fails with errors.ErrUnsupported for TLS, and with net.ErrClosed for a connection that
// is not open; then nothing changes.
func (c *Conn) Detach() (sock *socket.Conn, in, out []byte, err error) {
	switch {
	case c.tls != nil:
		return nil, nil, nil, errDetachTLS
	case c.state != open:
		return nil, nil, nil, errNotOpen
	}
	l := c.loop
	if c.registered != 0 {
		if err := l.poll.Registry().Deregister(c.sock); err != nil {
			return nil, nil, nil, err
		}
	}
	switch {
	case l.current == c && l.delivered != nil:
		in = bytes.Clone(l.delivered)
	case c.in != nil:
		in = bytes.Clone(c.in.rest())
	}
	if c.out != nil {
		out = bytes.Clone(c.out.rest())
	}
	sock = c.sock
	c.forget()
	l.release(&c.out)
	l.remove(c)
	return sock, in, out, nil
}

// touch has the loop look at c after a call of a method.
func (c *Conn) touch() {
	if c != c.loop.current && c.state < gone {
		c.loop.later(c)
	}
}
