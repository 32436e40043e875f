package loop

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

var (
	// ErrFull is returned by [Conn.Write] when the unsent data would exceed MaxOut. Write
	// took nothing. Continue after Drained: see [Drainer].
	ErrFull = errors.New("loop: write: more unsent data than MaxOut: continue after Drained")

	// ErrTooLong is the error of a connection whose handler left more than MaxIn bytes
	// unused.
	ErrTooLong = errors.New("loop: read: message longer than MaxIn")

	// ErrAborted is the error of a connection that ended with [Conn.Abort].
	ErrAborted = errors.New("loop: connection aborted")

	// ErrEnding is the error of connections that end because Run ends, and of methods that
	// would begin something new while the loop ends. It matches net.ErrClosed with errors.Is.
	ErrEnding = fmt.Errorf("loop: ending: %w", net.ErrClosed)
)

// Errors of methods.
var (
	errEnded         = fmt.Errorf("loop: write: connection ended: %w", net.ErrClosed)
	errShut          = errors.New("loop: write after CloseWrite")
	errNoHandler     = fmt.Errorf("loop: nil handler: %w", fs.ErrInvalid)
	errNoSocket      = fmt.Errorf("loop: nil socket: %w", fs.ErrInvalid)
	errNoCert        = fmt.Errorf("loop: tls.Config without a certificate: set Certificates, GetCertificate or GetConfigForClient: %w", fs.ErrInvalid)
	errNoFunc        = fmt.Errorf("loop: post: nil function: %w", fs.ErrInvalid)
	errNoPoll        = fmt.Errorf("loop: run: NewPoll returned nil: %w", fs.ErrInvalid)
	errNoContext     = fmt.Errorf("loop: run: nil context: pass context.Background(): %w", fs.ErrInvalid)
	errNoStart       = fmt.Errorf("loop: run: nil start function: %w", fs.ErrInvalid)
	errGoexit        = errors.New("loop: run: the start function ended its goroutine")
	errHandlerGoexit = errors.New("loop: run: a handler ended its goroutine (runtime.Goexit)")
	errDetachTLS     = fmt.Errorf("loop: detach: TLS connections cannot be detached: %w", errors.ErrUnsupported)
	errZeroLoop      = fmt.Errorf("zero Loop: use a Loop that loop.Run passes to its start function: %w", fs.ErrInvalid)
	errZeroConn      = fmt.Errorf("zero Conn: use a Conn that a Loop passes to a handler, or that Dial or Adopt returns: %w", fs.ErrInvalid)
	errNotOpen       = fmt.Errorf("loop: detach: connection not open: %w", net.ErrClosed)
)

// named is an address as the program has passed it.
type named struct{ network, address string }

func (a named) Network() string { return a.network }
func (a named) String() string  { return a.address }

// refused returns the error of a method that begins something. ErrEnding stays as it is.
func refused(op, network string, addr net.Addr, err error) error {
	if err == ErrEnding {
		return err
	}
	return &net.OpError{Op: op, Net: network, Addr: addr, Err: err}
}

// refusedSocket is refused, for a socket of the program with this address; nil: it has none.
func refusedSocket(op string, addr net.Addr, err error) error {
	if addr == nil {
		return refused(op, "", nil, err)
	}
	return refused(op, addr.Network(), addr, err)
}

// limitError is the error of a connection whose time limit has passed.
type limitError string

func (e limitError) Error() string { return "loop: " + string(e) }
func (e limitError) Unwrap() error { return os.ErrDeadlineExceeded }

// Timeout reports true, as a net.Error that is a timeout does.
func (e limitError) Timeout() bool { return true }

const (
	errConnectLimit   limitError = "dial: not connected within the limit"
	errHandshakeLimit limitError = "handshake: not finished within the limit"
	errIdle           limitError = "idle for longer than Config.Idle"
	errDeadline       limitError = "deadline exceeded"
	errGrace          limitError = "close: the peer did not accept the unsent data within Config.Grace"
)

// errReset is the error of a reset after the end of the stream: reading then returns the end
// of the stream, not the system's error.
var errReset = errors.New("loop: connection reset by peer")

// resetError returns errReset with the addresses of c, as far as the system knows them. Closing a
// half of a connection that was reset fails, and the error has them.
func (c *Conn) resetError() error {
	var op *net.OpError
	if errors.As(c.sock.CloseWrite(), &op) {
		return &net.OpError{Op: "read", Net: op.Net, Source: op.Source, Addr: op.Addr, Err: errReset}
	}
	return errReset
}

// failure returns the error of an attempt to connect or to shake hands that failed with err. An
// error of the system mostly names both ends; one of TLS or of a time limit names nothing.
func (c *Conn) failure(err error) error {
	at, ok := c.err.(*net.OpError)
	if !ok || err == ErrAborted || err == ErrEnding {
		return err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil && (op.Source != nil || c.state == connecting) {
		return err
	}
	at.Err = err
	if at.Source = c.sock.LocalAddr(); at.Source != nil {
		at.Net = at.Source.Network()
	}
	return at
}

// panicError is the error of a connection whose handler panicked.
type panicError struct{ value any }

func (e panicError) Error() string { return fmt.Sprintf("loop: handler panicked: %v", e.value) }
func (e panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}
