package tlsconn

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"

	"github.com/epore/epore/socket"
)

// Conn is a TLS connection above a socket that never blocks. [Server] and [Client] make it.
//
// A Conn belongs to one goroutine at a time; the package comment has the rules for the
// goroutines that shake hands. Close it, or close its socket and then the Conn: a handshake
// that was begun and is never ended holds a coroutine.
type Conn struct {
	tls  *tls.Conn
	link link

	// resume runs the handshake until it waits or ends; stop ends one that waits.
	resume func() (struct{}, bool)
	stop   func()

	established bool
	pending     bool
	err         error // why there is no handshake; nil: not known yet
}

var (
	errNoSocket      = fmt.Errorf("the socket is nil: %w", fs.ErrInvalid)
	errRenegotiation = fmt.Errorf("renegotiation shakes hands inside Read: leave Config.Renegotiation at RenegotiateNever: %w", errors.ErrUnsupported)
	errPanicked      = errors.New("a callback of the tls.Config panicked, or ended its goroutine")
	errEarly         = errors.New("tlsconn: close write: the handshake has not ended: call Handshake until it returns nil")
)

// truncatedError is the end of a stream without a close_notify alert.
type truncatedError struct{}

func (truncatedError) Error() string {
	return "tlsconn: read: the stream ended without close_notify: data may be missing"
}
func (truncatedError) Unwrap() error { return io.ErrUnexpectedEOF }

// Server returns the server side of a TLS connection on sock. config needs a certificate, as
// for [tls.Server]. From now on sock belongs to the Conn: it is registered and deregistered,
// but nobody else reads, writes or closes it.
//
// Server does not fail; what is wrong with its arguments is the error of [Conn.Handshake].
func Server(sock *socket.Conn, config *tls.Config) *Conn { return newConn(sock, config, tls.Server) }

// Client returns the client side of a TLS connection on sock, as Server does. sock may still
// be connecting. config needs a ServerName, or InsecureSkipVerify, as for [tls.Client].
func Client(sock *socket.Conn, config *tls.Config) *Conn { return newConn(sock, config, tls.Client) }

func newConn(sock *socket.Conn, config *tls.Config, side func(net.Conn, *tls.Config) *tls.Conn) *Conn {
	c := &Conn{link: link{sock: sock}}
	switch {
	case sock == nil:
		c.err = failed(errNoSocket)
	case config != nil && config.Renegotiation != tls.RenegotiateNever:
		c.err = failed(errRenegotiation)
	}
	c.tls = side(&c.link, config)
	return c
}

// failed is the error of a handshake.
func failed(err error) error { return fmt.Errorf("tlsconn: handshake: %w", err) }

// Handshake shakes hands as far as that goes without waiting. It returns
// [socket.ErrWouldBlock] when it has to wait: call it again at the next event of the socket.
// It returns nil once the connection is established, also when it is called again. Any other
// error is final, and the same at each call: the peer's alert, a certificate that is not
// trusted, or an error of the socket. An alert for the peer has then been sent as far as the
// socket took it.
//
// A peer that ends the stream in the middle of the handshake gives an error that is
// [io.ErrUnexpectedEOF]. A Config whose Renegotiation is not RenegotiateNever gives
// [errors.ErrUnsupported].
//
// After nil, Buffered may be above zero, and the peer's first data may have arrived without
// a further event: call Read.
//
// Handshake has no time limit. A program that serves strangers sets a Timer, and closes the
// Conn when it fires.
func (c *Conn) Handshake() error {
	switch {
	case c.established:
		return nil
	case c.err != nil:
		return c.err
	case c.tls == nil:
		return failed(fmt.Errorf("zero value: create it with Server or Client: %w", fs.ErrInvalid))
	}
	if c.resume == nil {
		c.resume, c.stop = iter.Pull(c.shake)
	}
	_ = c.link.flush() // its error is kept, and reading may tell more: the peer's alert
	_, waiting := c.resume()
	flushErr := c.link.flush()
	if waiting {
		if flushErr == nil || flushErr == socket.ErrWouldBlock {
			return socket.ErrWouldBlock
		}
		c.abandon()
		c.err = failed(flushErr)
		return c.err
	}
	c.resume, c.stop = nil, nil
	if c.err != nil {
		return c.err
	}
	c.established, c.pending = true, true
	c.link.records.whole = unknown // the handshake does not say what it used
	return nil
}

// shake is the coroutine.
func (c *Conn) shake(yield func(struct{}) bool) {
	err := errPanicked // unless crypto/tls returns
	defer func() {
		c.link.wait = nil
		switch {
		case err == nil:
		case c.link.ended(err):
			c.err = failed(truncatedError{})
		default:
			c.err = failed(err)
		}
	}()
	c.link.wait = yield
	err = c.tls.Handshake()
}

// abandon ends a handshake that waits.
func (c *Conn) abandon() {
	if c.stop != nil {
		c.stop()
		c.resume, c.stop = nil, nil
	}
}

// Read reads what the peer has sent, at most len(b) bytes, and shakes hands first if that
// is not done. It returns [socket.ErrWouldBlock] when there is nothing to read now, and
// [io.EOF] after the peer's close_notify. A stream that ends without one, because the peer
// or somebody between cut it off, is an error that is [io.ErrUnexpectedEOF].
//
// After a Read that returned data, further data may wait in the Conn, for which no event
// comes: see [Conn.Pending].
func (c *Conn) Read(b []byte) (int, error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	n, err := c.tls.Read(b)
	if c.link.buffered() > 0 && !c.link.blocked {
		_ = c.link.flush() // its error is that of the next Write or Flush
	}
	if n > 0 {
		// A Read that has filled b may have left something of its record.
		c.pending = n == len(b) || c.link.records.use() || err != nil
		return n, nil // an error comes again
	}
	if err != nil {
		c.pending = false
	}
	if c.link.ended(err) {
		err = truncatedError{}
	}
	return 0, err
}

// Pending reports that a Read may find something although no event comes: that crypto/tls
// may hold bytes of the peer that no Read has returned. A loop that leaves a Conn in this
// state comes back to it by itself. A level-triggered loop need not read once more when
// Pending is false; an edge-triggered one reads until [socket.ErrWouldBlock].
func (c *Conn) Pending() bool { return c.pending }

// Write encrypts b, sends what the socket takes at once, and keeps the rest: it takes all of
// b or fails. [Conn.Buffered] says how much is kept, [Conn.Flush] sends it.
//
// Before the handshake has ended, Write takes nothing and returns [socket.ErrWouldBlock].
// After CloseWrite and after an error it fails.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	n, err := c.tls.Write(b)
	if err == nil && !c.link.blocked {
		if err = c.link.flush(); err == socket.ErrWouldBlock {
			err = nil
		}
	}
	return n, err
}

// Buffered returns how many bytes wait to be sent, as they go over the wire: encrypted, and
// with the records' headers. While it is above zero, wait for Writable, and call Flush.
func (c *Conn) Buffered() int { return c.link.buffered() }

// Flush sends what is buffered. It returns nil when nothing is left, and
// [socket.ErrWouldBlock] when something is: call it again when the socket is Writable. Any
// other error is final, and what was buffered is gone.
func (c *Conn) Flush() error { return c.link.flush() }

// CloseWrite tells the peer, by a close_notify alert, that nothing more will be written.
// Reading goes on. What is buffered goes first: Flush until nothing is. CloseWrite fails
// before the handshake has ended, and after an error of writing.
//
// The socket's sending half stays open, because reading may have to answer a key update. Some
// peers close the whole connection when they get the alert, as RFC 5246 asks for.
func (c *Conn) CloseWrite() error {
	if !c.established {
		if c.err != nil {
			return c.err
		}
		return errEarly
	}
	err := c.tls.CloseWrite()
	if err == nil && !c.link.blocked {
		if err = c.link.flush(); err == socket.ErrWouldBlock {
			err = nil
		}
	}
	return err
}

// Close sends a close_notify alert if the socket takes it at once, and closes the socket,
// which deregisters it. A handshake that was not ended is given up. What is buffered and
// does not leave now is lost; a program that cares calls CloseWrite, Flush until it returns
// nil, and Read until it returns io.EOF, before it calls Close. Closing again fails with
// [net.ErrClosed].
func (c *Conn) Close() error {
	c.abandon()
	c.pending = false
	if c.tls == nil || c.link.sock == nil {
		return c.Handshake()
	}
	if c.established && !c.link.blocked {
		_ = c.tls.CloseWrite() // the peer then sees a truncated stream
		_ = c.link.flush()
	}
	return c.link.Close()
}

// ConnectionState returns what was agreed on with the peer: version, cipher suite, ALPN
// protocol, certificates. It is the zero value until Handshake has returned nil.
func (c *Conn) ConnectionState() tls.ConnectionState {
	if !c.established { // the handshake holds the lock that crypto/tls would wait for
		return tls.ConnectionState{}
	}
	return c.tls.ConnectionState()
}

// Socket returns the socket below, to be registered with a Poll, and for its addresses and
// options.
func (c *Conn) Socket() *socket.Conn { return c.link.sock }
