package epore

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/epore/epore/backend"
)

var (
	// ErrClosed is returned by everything that is asked of a closed Poll,
	// Registry, Waker, Mailbox or Timer. It is also net.ErrClosed.
	ErrClosed error = closedError{}

	// ErrBusy is returned by a Poll that finds another one waiting on the same
	// queue: one goroutine at a time waits, the others may register.
	ErrBusy = errors.New("another goroutine is polling it: a queue has one waiter at a time")

	// ErrFull is returned by Send of a Mailbox with a bound, when as many values wait
	// in it.
	ErrFull = errors.New("it is full: as many values wait as its bound allows")

	// ErrNotPollable is returned by Register for what can never be waited for,
	// such as a regular file or a directory.
	ErrNotPollable = backend.ErrNotPollable

	// ErrWrongThread is returned by a Poll on a queue that belongs to one thread,
	// as an io_uring does with [Block], when called on another one than the first
	// Poll was: the goroutine is to be locked to its thread.
	ErrWrongThread = backend.ErrWrongThread
)

// errMadeByHand is about zero values of types that functions make.
var errMadeByHand = fmt.Errorf("it is a zero value: make it with TryClone or a function that begins with New: %w", fs.ErrInvalid)

type closedError struct{}

func (closedError) Error() string { return "closed" }
func (closedError) Unwrap() error { return net.ErrClosed }

// OpError is the error of every operation that failed: what was attempted, on
// what, and why. It unwraps to the system's errno, and answers to errors.Is
// for the sentinel of the situation:
//
//   - [fs.ErrExist]: the source is registered with this Poll already;
//   - [fs.ErrNotExist]: it is not registered;
//   - [net.ErrClosed]: the source, the Registry or the Poll is closed;
//   - [ErrNotPollable]: the source can never be waited for;
//   - [os.ErrProcessDone]: the process was waited for, or there is none;
//   - [ErrWrongThread]: the goroutine polls on another thread than before;
//   - [errors.ErrUnsupported]: the queue cannot do what was asked for;
//   - [fs.ErrInvalid]: the arguments make no sense; the text says which.
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

// advice says what to do, where the errno does not.
func (e *OpError) advice() string {
	switch {
	case errors.Is(e.Err, fs.ErrExist):
		return "already registered with this Poll: use Reregister to change it, or dup the descriptor for a second token"
	case e.sourceClosed() && e.Op == opRegister.String():
		return "the source is closed, or never was open"
	case e.sourceClosed():
		return "the source is closed: deregister before closing"
	case errors.Is(e.Err, fs.ErrNotExist):
		return "not registered with this Poll: use Register first"
	case errors.Is(e.Err, syscall.EMFILE):
		return "this process has no descriptor left: close some or raise the limit, ulimit -n"
	}
	return ""
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// Is makes a source that is closed answer to net.ErrClosed, whatever kind of
// source it is; and, where a registration was looked for, to fs.ErrNotExist:
// what is closed is not registered.
func (e *OpError) Is(target error) bool {
	switch target {
	case net.ErrClosed:
		return e.sourceClosed()
	case fs.ErrNotExist:
		return e.Op != opRegister.String() && e.sourceClosed()
	}
	return false
}

// sourceClosed reports that it is the source that is closed: EBADF says a raw
// descriptor, fs.ErrClosed an *os.File, net.ErrClosed a net.Conn; but also a
// Poll or Registry, which are not meant.
func (e *OpError) sourceClosed() bool {
	return errors.Is(e.Err, errBadDescriptor) || errors.Is(e.Err, fs.ErrClosed) ||
		errors.Is(e.Err, net.ErrClosed) && !errors.Is(e.Err, ErrClosed)
}
