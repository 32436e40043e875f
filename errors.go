package epore

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/system"
)

var (
	// ErrClosed is returned by every operation on a Poll, Registry, Waker, Mailbox or Timer
	// that is closed. It matches net.ErrClosed with errors.Is.
	ErrClosed error = closedError{}

	// ErrBusy is returned by a Poll that finds another goroutine polling the same queue.
	// One goroutine at a time polls; the others may register.
	ErrBusy = errors.New("concurrent Poll: only one goroutine may poll at a time")

	// ErrFull is returned by Send of a Mailbox with a bound when as many values as the
	// bound are waiting in it.
	ErrFull = errors.New("full: receive from it before sending more")

	// ErrNotPollable is returned by Register for a source that has no readiness to wait
	// for, such as a regular file or a directory.
	ErrNotPollable = backend.ErrNotPollable

	// ErrWrongThread is returned by Poll on a queue that belongs to one thread
	// (Capabilities().OneThread), as an io_uring does, if it is called by a goroutine other
	// than the one that called the first Poll.
	ErrWrongThread = backend.ErrWrongThread
)

// errZeroValue is the error of methods of zero values of types that functions create.
var errZeroValue = fmt.Errorf("zero value: create it with TryClone or a function whose name begins with New: %w", fs.ErrInvalid)

type closedError struct{}

func (closedError) Error() string { return "closed" }
func (closedError) Unwrap() error { return net.ErrClosed }

// OpError is the error of every operation that failed: what was attempted, on what, and
// why. It unwraps to the system's errno, and errors.Is matches the sentinel of the
// situation:
//
//   - [fs.ErrExist]: the source is already registered with this Poll;
//   - [fs.ErrNotExist]: the source is not registered;
//   - [net.ErrClosed]: the source, the Registry or the Poll is closed;
//   - [ErrNotPollable]: the source has no readiness to wait for;
//   - [os.ErrProcessDone]: the process was waited for, or does not exist;
//   - [ErrWrongThread]: the call comes from a goroutine other than that of the first Poll;
//   - [errors.ErrUnsupported]: the queue does not support what was asked for;
//   - [fs.ErrInvalid]: the arguments make no sense, and the text says which.
type OpError struct {
	Op     string // "register", "reregister", "deregister", "clone", "open", "poll", "wake", "send to", "reset", "close"
	Source string // "fd 7", "*net.TCPConn (fd 7)", "process 123", "the epoll queue"
	Err    error
}

// Error implements error.
func (e *OpError) Error() string {
	var b strings.Builder
	b.WriteString("epore: ")
	b.WriteString(e.Op)
	if e.Source != "" {
		b.WriteByte(' ')
		b.WriteString(e.Source)
	}
	b.WriteString(": ")
	if e.Err == nil {
		return b.String() + "failed"
	}
	b.WriteString(e.Err.Error())
	if advice := e.advice(); advice != "" {
		b.WriteString(" (")
		b.WriteString(advice)
		b.WriteByte(')')
	}
	return b.String()
}

// advice says what to do where the errno does not.
func (e *OpError) advice() string {
	switch {
	case errors.Is(e.Err, fs.ErrExist) && e.Op == opRegister.String():
		return "already registered with this Poll: use Reregister to change it, or dup the descriptor for a second token"
	case e.sourceClosed() && e.Op == opRegister.String():
		return "the source is closed or was never open"
	case e.Err == errSocketClosed:
		return "the socket is closed: its Close has deregistered it"
	case e.sourceClosed():
		return "the source is closed: deregister before closing"
	case errors.Is(e.Err, fs.ErrNotExist):
		return "not registered with this Poll: use Register first"
	case errors.Is(e.Err, syscall.EMFILE):
		return "the process has no descriptor left: close some, or raise the limit with ulimit -n"
	}
	return ""
}

// errSocketClosed is net.ErrClosed for the sockets of package socket, which need other advice.
var errSocketClosed = fmt.Errorf("%w", net.ErrClosed)

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// Is makes an error about a closed source match net.ErrClosed, whatever kind of source it
// is. Where an operation needed a registration, it also matches fs.ErrNotExist, because a
// closed source is no longer registered.
func (e *OpError) Is(target error) bool {
	switch target {
	case net.ErrClosed:
		return e.sourceClosed()
	case fs.ErrNotExist:
		return e.Op != opRegister.String() && e.sourceClosed()
	}
	return false
}

// sourceClosed reports whether the source is what is closed. A raw descriptor says so by
// EBADF, an *os.File by fs.ErrClosed, a net.Conn by net.ErrClosed. A closed Poll or Registry,
// which is net.ErrClosed too, does not count.
func (e *OpError) sourceClosed() bool {
	return errors.Is(e.Err, system.BadDescriptor) || errors.Is(e.Err, fs.ErrClosed) ||
		errors.Is(e.Err, net.ErrClosed) && !errors.Is(e.Err, ErrClosed)
}
