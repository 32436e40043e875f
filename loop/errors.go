package loop

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

var (
	// ErrFull is returned by Write when what waits to be sent would exceed MaxOut. Nothing
	// was taken. Drained tells when to go on: see [Drainer].
	ErrFull = errors.New("loop: write: as much waits to be sent as MaxOut allows: go on after Drained")

	// ErrTooLong ends a connection whose handler left more than MaxIn bytes unused.
	ErrTooLong = errors.New("loop: read: the message is longer than MaxIn allows")

	// ErrAborted is what Close is told after [Conn.Abort].
	ErrAborted = errors.New("loop: the connection was aborted")

	// ErrEnding is what Close is told about connections that end with Run, and the error of
	// everything that would begin something new while a loop ends. It is net.ErrClosed, too.
	ErrEnding = fmt.Errorf("loop: the loop is ending: %w", net.ErrClosed)
)

// Errors of methods.
var (
	errEnded     = fmt.Errorf("loop: write: the connection has ended: %w", net.ErrClosed)
	errShut      = errors.New("loop: write: the sending half is closed")
	errNoHandler = fmt.Errorf("loop: the handler is nil: %w", fs.ErrInvalid)
	errNoSocket  = fmt.Errorf("loop: the socket is nil: %w", fs.ErrInvalid)
	errNoStart   = fmt.Errorf("loop: run: start is nil: %w", fs.ErrInvalid)
	errGoexit    = errors.New("loop: run: start ended its goroutine")
	errDetachTLS = fmt.Errorf("loop: detach: the state of TLS stays with its connection: %w", errors.ErrUnsupported)
	errNotOpen   = fmt.Errorf("loop: detach: the connection is not open: %w", net.ErrClosed)
)

// limitError says that the time for something is over.
type limitError string

func (e limitError) Error() string { return "loop: " + string(e) }
func (e limitError) Unwrap() error { return os.ErrDeadlineExceeded }

// Timeout makes it a time-out for those that ask as net.Error does.
func (e limitError) Timeout() bool { return true }

const (
	errConnectLimit   limitError = "dial: the connection was not made in time"
	errHandshakeLimit limitError = "the TLS handshake took longer than its limit"
	errIdle           limitError = "nothing was received or sent for as long as Idle allows"
	errDeadline       limitError = "the deadline has passed"
	errGrace          limitError = "the peer did not take what was sent for as long as Grace allows"
)

// errReset is for a connection whose input had ended before: the system keeps its error.
var errReset = errors.New("loop: read: connection reset by peer")

// panicError is what Close is told after a panic in a handler.
type panicError struct{ value any }

func (e panicError) Error() string { return fmt.Sprintf("loop: the handler panicked: %v", e.value) }
func (e panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}
