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
// One goroutine at a time may use a Conn. The package comment has the rules for goroutines that
// shake hands. Close every Conn: a handshake that has not ended holds a coroutine.
type Conn struct {
	// What every message touches comes first, in one cache line: these, and link up to its
	// errors.
	tls         *tls.Conn
	established bool
	pending     bool
	link        link

	// resume runs the handshake until it waits or ends; stop ends one that waits.
	resume func() (struct{}, bool)
	stop   func()

	err error // the error of the handshake
}

var (
	errNoSocket      = fmt.Errorf("nil socket: %w", fs.ErrInvalid)
	errZeroValue     = fmt.Errorf("zero value: create it with Server or Client: %w", fs.ErrInvalid)
	errRenegotiation = fmt.Errorf("renegotiation: leave Config.Renegotiation at RenegotiateNever: %w", errors.ErrUnsupported)
	errPanicked      = errors.New("a callback of the tls.Config panicked or ended its goroutine")
	errEarly         = errors.New("tlsconn: close write before the end of the handshake: call Handshake until it returns nil")
)

// truncatedError is the end of a stream without a close_notify alert.
type truncatedError struct{}

func (truncatedError) Error() string {
	return "tlsconn: read: end of stream without close_notify: data may be missing"
}
func (truncatedError) Unwrap() error { return io.ErrUnexpectedEOF }

// Server returns the server side of a TLS connection on sock. The config needs a certificate,
// as for [tls.Server]. The Conn owns sock: the program registers it with Polls, but does not
// read, write or close it.
//
// Server does not fail. [Conn.Handshake] returns the error if an argument is invalid.
func Server(sock *socket.Conn, config *tls.Config) *Conn { return newConn(sock, config, tls.Server) }

// Client returns the client side of a TLS connection on sock, as Server does. The socket may
// still be connecting. The config needs a ServerName or InsecureSkipVerify, as for
// [tls.Client].
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

// Handshake continues the handshake until it would have to wait. Then it returns
// [socket.ErrWouldBlock]: call it again at the next event of the socket. It returns nil once
// the connection is established. Any other error is final, and later calls return it again: an
// alert of the peer, a certificate that is not trusted, an error of the socket. Handshake has
// then sent its alert to the peer, if the socket accepted it.
//
// If the peer closes the stream before the end of the handshake, the error matches
// [io.ErrUnexpectedEOF] with errors.Is. If the Config allows renegotiation, it matches
// [errors.ErrUnsupported].
//
// When Handshake has returned nil, Buffered may be above zero, and data of the peer may have
// arrived for which no event comes: call Read.
//
// Handshake has no time limit. Servers on public networks set a Timer, and close the Conn when
// it fires.
func (c *Conn) Handshake() error {
	switch {
	case c.established:
		return nil
	case c.err != nil:
		return c.err
	case c.tls == nil:
		return failed(errZeroValue)
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

// Read reads up to len(b) bytes, after the handshake, which it continues if necessary. It
// returns [socket.ErrWouldBlock] if no data is available now, and [io.EOF] after the peer's
// close_notify alert. If the stream ends without that alert, it may have been cut off; the
// error then matches [io.ErrUnexpectedEOF] with errors.Is.
//
// After a Read that returned data, the Conn may hold more, for which no event comes: see
// [Conn.Pending].
func (c *Conn) Read(b []byte) (int, error) {
	if !c.established {
		if err := c.Handshake(); err != nil {
			return 0, err
		}
	}
	n, err := c.tls.Read(b)
	if c.link.out != nil && !c.link.blocked {
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

// Pending reports whether crypto/tls may hold data that no Read has returned. No event comes
// for that data, so a loop that stops reading while Pending is true must return to the Conn by
// itself. A level-triggered loop may stop reading when Pending is false. An edge-triggered loop
// reads until [socket.ErrWouldBlock].
func (c *Conn) Pending() bool { return c.pending }

// Write encrypts b and sends it. It takes all of b or fails: data that the socket does not
// accept stays in the Conn. [Conn.Buffered] returns how much that is, and [Conn.Flush] sends it.
//
// Before the end of the handshake, Write takes nothing and returns [socket.ErrWouldBlock]. It
// fails after CloseWrite and after an error.
func (c *Conn) Write(b []byte) (int, error) {
	if !c.established {
		if err := c.Handshake(); err != nil {
			return 0, err
		}
	}
	c.link.direct = len(b) <= oneRecord
	n, err := c.tls.Write(b)
	c.link.direct = false
	if err == nil && !c.link.blocked {
		if err = c.link.flush(); err == socket.ErrWouldBlock {
			err = nil
		}
	}
	return n, err
}

// Buffered returns the number of unsent bytes, encrypted and with the headers of records. While
// it is above zero, wait for Writable and call Flush.
func (c *Conn) Buffered() int { return c.link.buffered() }

// Flush sends the unsent bytes. It returns nil if none are left. If the socket does not accept
// all of them, Flush returns [socket.ErrWouldBlock]: call it again when the socket is Writable.
// Any other error is final, and the unsent bytes are lost.
func (c *Conn) Flush() error { return c.link.flush() }

// CloseWrite sends a close_notify alert, after the unsent bytes: the peer reads the end of the
// stream. Reading continues. CloseWrite fails before the end of the handshake and after an
// error of writing.
//
// The sending half of the socket stays open, because Read may have to answer a key update.
// Some peers close the whole connection when they receive the alert, as RFC 5246, section
// 7.2.1, requires.
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

// Close closes the socket, which deregisters it. It first sends the unsent bytes and a
// close_notify alert, as far as the socket accepts them; the rest is lost. To lose nothing, call
// CloseWrite, Flush until it returns nil, and Read until it returns io.EOF, and then Close.
// Close ends a handshake in progress. A second Close fails with [net.ErrClosed].
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

// ConnectionState returns the state of the connection: version, cipher suite, ALPN protocol,
// certificates. It is the zero value until Handshake has returned nil.
func (c *Conn) ConnectionState() tls.ConnectionState {
	if !c.established { // the handshake holds the lock that crypto/tls would wait for
		return tls.ConnectionState{}
	}
	return c.tls.ConnectionState()
}

// Socket returns the socket of the connection, to register it with a Poll, and to ask for its
// addresses and set its options.
func (c *Conn) Socket() *socket.Conn { return c.link.sock }
