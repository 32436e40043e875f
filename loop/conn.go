package loop

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
	"github.com/epore/epore/tlsconn"
)

// Conn is a connection of a Loop. Its methods may only be called on the goroutine of the loop.
//
// A zero Conn is not connected: Write and Detach fail with fs.ErrInvalid, and the other methods
// do nothing.
type Conn struct {
	// What every message touches comes first, in one cache line.

	sock    *socket.Conn
	loop    *Loop
	handler Handler
	in      *buffer       // received bytes that the handler did not use, or nil
	out     *buffer       // written bytes that are not sent, or nil
	last    time.Duration // when data was last received or sent

	registered epore.Interest // 0: not registered
	state      state
	flow       flow
	secure     bool // over TLS
	ended      bool // the peer has closed its half
	shut       bool // this half is to be closed once all data is sent
	blocked    bool // the socket would block: a Writable event follows
	full       bool // Write returned ErrFull

	tls   *tlsconn.Conn // nil: without TLS
	value any
	err   error         // the argument for Close; before Open, a *net.OpError: see failure
	limit time.Duration // when the connection ends
	place int32         // the index in loop.due, or -1
	token uint32

	opened   bool // Open was called
	queued   bool // in loop.todo
	shutDone bool // this half is closed
	finDone  bool // the socket's half below TLS is closed
	more     bool // the next Read of TLS returns an error without an event
	deadline bool // SetDeadline has set limit
	deaf     bool // not registered while it waits for nothing: see hushedEvent
}

// state is the state of a connection. The order matters.
type state uint8

const (
	connecting state = iota
	shaking          // hands
	open
	closing // sends what is left, and waits for the peer's end
	dead    // closed; the handler is still to be told
	gone
)

// flow says whether the handler takes data.
type flow uint8

const (
	flowing flow = iota
	paused
	resumed // Data is to be called without new bytes, before the next read
)

const (
	// direct is the size from which data is written directly, without gathering it.
	direct = 2 << 10
	// enough is how many bytes may be unsent while the loop reads on. Below, small answers do
	// not alternate with waiting; above, reading would only move data from the system's
	// buffers into memory.
	enough = 16 << 10
	// eager is the size at which gathered data is sent before the handler returns.
	eager = 64 << 10
)

// Write sends b. It either takes all of b, or fails and takes nothing. It fails with
// [ErrFull] if more than MaxOut bytes would be unsent, and with another error if the
// connection has ended. If no data is unsent, Write takes b whatever its length. The caller
// may reuse b when Write has returned.
//
// The data that a handler writes because of one event is sent together when the handler has
// returned. Data for other connections, and data written in other functions, is sent at the
// end of the batch of events. Large data is sent at once.
//
// A handler that only answers requests does not see ErrFull as long as the answers to the
// requests that arrive together (64 KiB, and the bytes left unused) are smaller than MaxOut
// minus 16 KiB, because the loop does not read while more than that is unsent.
func (c *Conn) Write(b []byte) (int, error) {
	l := c.loop
	switch {
	case l == nil:
		return 0, fmt.Errorf("loop: write: %w", errZeroConn)
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
	if len(b) >= direct && ready && !c.secure {
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

// Buffered returns the number of unsent bytes. Over TLS, it includes the overhead of those
// bytes that are already encrypted.
func (c *Conn) Buffered() (n int) {
	if c.out != nil {
		n = c.out.len()
	}
	if c.secure {
		n += c.tls.Buffered()
	}
	return n
}

// Pause stops reading: the loop does not call Data until Resume, and the peer soon cannot send
// more. A reset still ends the connection.
func (c *Conn) Pause() {
	if c.state <= open {
		c.flow = paused
		c.touch()
	}
}

// Resume continues reading after Pause. If Data has left bytes unused, the loop first
// passes these again, without new bytes. It does so after the handler that calls Resume has
// returned.
func (c *Conn) Resume() {
	if c.flow == paused && c.loop != nil {
		c.flow, c.deaf = resumed, false
		c.last = clock() // it was not idle
		c.loop.later(c)
	}
}

// CloseWrite closes this half of the connection once all written data is sent. The peer then
// reads the end of the stream. Over TLS, it receives a close_notify alert. Reading continues;
// Write fails from now on.
func (c *Conn) CloseWrite() { c.shut = true; c.touch() }

// Close closes the connection in order. The loop sends the written data, closes this half,
// discards what the peer sends until it closes its half, and then calls the handler's
// Close, with nil unless something fails. This takes at most Grace; unsent data is then
// lost, the peer gets a reset, and the error matches os.ErrDeadlineExceeded. The loop does
// not call Data or EOF any more. Before Open, Close is like Abort.
func (c *Conn) Close() {
	if c.state > open {
		return
	}
	if c.state < open { // or zero
		c.die(ErrAborted)
		return
	}
	c.state, c.shut, c.flow = closing, true, flowing
	c.forget()
	c.limit = min(c.limit, sum(clock(), c.loop.cfg.Grace))
	c.loop.schedule(c)
	c.touch()
}

// Abort closes the connection at once. Unsent data is lost, and the peer gets a reset (on a
// Unix socket, the end of the stream). The loop calls the handler's Close with [ErrAborted]
// after the handler that calls Abort has returned.
func (c *Conn) Abort() {
	if c.state < dead && c.loop != nil {
		_ = c.sock.SetLinger(0) // fails for a Unix socket, which has no reset
		c.die(ErrAborted)
	}
}

// SetDeadline ends the connection at time t, even if data arrives until then. The error
// matches os.ErrDeadlineExceeded with errors.Is. The zero time means no deadline. Before
// Open, the deadline replaces the limit of Dial or of the handshake, and stays in force
// after Open. SetDeadline is cheap: it allocates nothing, and in most cases it sets no
// timer.
func (c *Conn) SetDeadline(t time.Time) {
	if c.state > open || c.loop == nil {
		return
	}
	c.limit = never
	if !t.IsZero() {
		now := time.Now()
		c.limit = sum(now.Sub(began), max(t.Sub(now), 0))
	}
	c.deadline = true
	c.loop.schedule(c)
}

// Value returns the value that SetValue has set, or nil.
func (c *Conn) Value() any { return c.value }

// SetValue sets the value that Value returns.
func (c *Conn) SetValue(v any) { c.value = v }

// Loop returns the loop that serves the connection.
func (c *Conn) Loop() *Loop { return c.loop }

// TLS returns the state of the TLS connection, or nil for a connection without TLS. Before
// Open, it is the zero value.
func (c *Conn) TLS() *tls.ConnectionState {
	if c.tls == nil {
		return nil
	}
	s := c.tls.ConnectionState()
	return &s
}

// LocalAddr returns the local address, as [socket.Conn.LocalAddr] does. It is nil after the
// end of the connection.
func (c *Conn) LocalAddr() net.Addr {
	if c.sock == nil {
		return nil
	}
	return c.sock.LocalAddr()
}

// RemoteAddr returns the address of the peer, as LocalAddr does. In the handler's Close it
// is nil; a handler that needs it there stores it in Open.
func (c *Conn) RemoteAddr() net.Addr {
	if c.sock == nil {
		return nil
	}
	return c.sock.RemoteAddr()
}

// Detach removes the connection from the loop and returns its socket, which then belongs to
// the caller. The loop does not call the handler any more, not even Close. in holds the
// received bytes that were not used; inside Data, that is all of b. out holds the written bytes
// that were not sent.
//
// Detach fails with errors.ErrUnsupported for a TLS connection, and with net.ErrClosed for a
// connection that is not open. Then nothing changes.
func (c *Conn) Detach() (sock *socket.Conn, in, out []byte, err error) {
	switch {
	case c.loop == nil:
		return nil, nil, nil, fmt.Errorf("loop: detach: %w", errZeroConn)
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

// touch applies the effect of a method of c at the end of the batch. For the current
// connection, settle does that.
func (c *Conn) touch() {
	if c.loop != nil && c != c.loop.current && c.state < gone {
		c.loop.later(c)
	}
}
