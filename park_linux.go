package epore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// parker parks a goroutine on the Go runtime's poller until a queue that is a descriptor
// becomes readable. Only the queues of Linux can be parked on. The runtime watches for
// reading and writing, and a kqueue within a kqueue supports only reading; a completion port
// is not a descriptor.
//
// The descriptor is a duplicate, because an os.File closes what it was given. The runtime
// gets it only when it is first needed: a queue that is itself watched makes each
// registration more expensive (by 6 to 20 % on epoll), and a Poll that is always busy, or
// whose waits are always short, never parks.
type parker struct {
	fd     int
	gather func(*Events) (stay bool, err error)

	file *os.File
	raw  syscall.RawConn
	try  func(uintptr) bool

	// Of the call in progress: the events to fill, the error, the number of looks.
	events *Events
	err    error
	looks  int

	deadline time.Duration // the file's deadline
	unusable atomic.Bool
}

// newParker returns a parker on the descriptor of b, or nil if b has none.
func newParker(b backend.Backend, gather func(*Events) (bool, error)) (*parker, error) {
	q, ok := b.(backend.Pollable)
	if !ok {
		return nil, nil
	}
	fd, err := unix.FcntlInt(uintptr(q.Descriptor()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate its descriptor, to park on: %w", err)
	}
	openRuntimePoller()
	k := &parker{fd: fd, gather: gather, deadline: never}
	k.try = func(uintptr) (stay bool) {
		k.looks++
		stay, k.err = k.gather(k.events)
		return stay
	}
	return k, nil
}

// openRuntimePoller makes the runtime open its poller now. Otherwise the runtime opens it
// when it first needs it, and ends the program if no descriptor is left by then. Adding a
// timer to the runtime's heap is what opens the poller.
var openRuntimePoller = sync.OnceFunc(func() { time.AfterFunc(time.Hour, func() {}).Stop() })

// attach gives the descriptor to the runtime's poller.
func (k *parker) attach() error {
	// os.NewFile gives only non-blocking descriptors to the poller.
	if err := unix.SetNonblock(k.fd, true); err != nil {
		return err
	}
	file := os.NewFile(uintptr(k.fd), "epore queue")
	if file == nil {
		return fs.ErrInvalid
	}
	k.file = file
	var err error
	if k.raw, err = file.SyscallConn(); err != nil {
		return err
	}
	// NewFile does not report that the runtime could not take it; this does.
	return file.SetReadDeadline(time.Time{})
}

// prepare sets the file's deadline, which is the duration left from now, and reports whether
// parking is possible.
func (k *parker) prepare(deadline, left time.Duration) bool {
	if k.unusable.Load() {
		return false
	}
	if k.file == nil && k.attach() != nil {
		k.unusable.Store(true) // permanently: it would fail again
		return false
	}
	if deadline != k.deadline {
		var t time.Time
		if deadline != never {
			t = time.Now().Add(left)
		}
		if k.file.SetReadDeadline(t) != nil {
			return false
		}
		k.deadline = deadline
	}
	return true
}

// past is the deadline that wakes a parked goroutine.
var past = time.Unix(1, 0)

// expired is the value of k.deadline when the file's deadline is past.
const expired time.Duration = 0

// park returns when there are events, which it has gathered, or without events when the
// deadline has passed or wake was called. It looks before it sleeps, and reports whether it
// slept.
func (k *parker) park(events *Events) (slept bool, err error) {
	k.events, k.err, k.looks = events, nil, 0
	err = k.raw.Read(k.try)
	k.events = nil
	if err == nil {
		return k.looks > 1, k.err
	}
	// Whatever set that deadline, it remains in the file, and no Read would begin.
	k.deadline = expired
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true, nil
	}
	return false, &OpError{"poll", "the queue's descriptor in the runtime's poller", err}
}

// wake ends the park in progress. If that ended by itself meanwhile, the next park ends
// early, which costs its caller an iteration.
func (k *parker) wake() { _ = k.file.SetReadDeadline(past) }

// close releases the descriptor.
func (k *parker) close() error {
	if k.file != nil {
		return k.file.Close()
	}
	return unix.Close(k.fd)
}
