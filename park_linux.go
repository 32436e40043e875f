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

// parker parks a goroutine on the Go runtime's own poller until a queue that is
// a descriptor becomes readable. Only the queues of Linux can be parked on: the
// runtime watches for reading and writing, and a kqueue inside a kqueue takes
// the former only; a completion port is no descriptor at all.
//
// The descriptor is a duplicate, because an os.File closes what it was given.
// It is handed to the runtime only when first needed: a queue that is itself
// watched makes each registration dearer (by 6 to 20 % on epoll), and a Poll
// that is always busy, or always in short waits, never parks.
type parker struct {
	fd     int
	gather func(*Events) (stay bool, err error)

	file *os.File
	raw  syscall.RawConn
	try  func(uintptr) bool

	// Of the call in progress: what to fill, what went wrong, how many looks.
	events *Events
	err    error
	looks  int

	deadline time.Duration // that the file has
	unusable atomic.Bool
}

// newParker returns a parker on b's descriptor, or nil if it has none.
func newParker(b backend.Backend, gather func(*Events) (bool, error)) (*parker, error) {
	q, ok := b.(backend.Pollable)
	if !ok {
		return nil, nil
	}
	fd, err := unix.FcntlInt(uintptr(q.Descriptor()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("dup of its descriptor, to park on: %w", err)
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

// openRuntimePoller has the runtime open its poller now, which it otherwise does when it
// first needs it: if there is no descriptor left for it by then, it ends the program. A
// timer that gets into its heap is what makes it.
var openRuntimePoller = sync.OnceFunc(func() { time.AfterFunc(time.Hour, func() {}).Stop() })

// attach hands the descriptor to the runtime's poller.
func (k *parker) attach() error {
	// Only a non-blocking descriptor is taken up by os.NewFile.
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
	// NewFile does not tell when the runtime could not take it; this does.
	return file.SetReadDeadline(time.Time{})
}

// prepare makes the file's deadline the given one, which is left away, and
// reports whether parking is possible.
func (k *parker) prepare(deadline, left time.Duration) bool {
	if k.unusable.Load() {
		return false
	}
	if k.file == nil && k.attach() != nil {
		k.unusable.Store(true) // for good: it would fail again
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

// past is the deadline that ends a wait.
var past = time.Unix(1, 0)

// expired is what k.deadline is when the file's is past.
const expired time.Duration = 0

// park returns when there are events, which it has gathered; or none when the
// deadline is over or after wake. It looks first, and says whether it slept then.
func (k *parker) park(events *Events) (slept bool, err error) {
	k.events, k.err, k.looks = events, nil, 0
	err = k.raw.Read(k.try)
	k.events = nil
	if err == nil {
		return k.looks > 1, k.err
	}
	// Whoever set that deadline, it stays in the file, and no Read would begin.
	k.deadline = expired
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true, nil
	}
	return false, &OpError{"poll", "the queue's descriptor in the runtime's poller", err}
}

// wake ends the park in progress. When that ended by itself meanwhile, the next
// one ends early, which costs its caller a turn of the loop.
func (k *parker) wake() { _ = k.file.SetReadDeadline(past) }

// close releases the descriptor.
func (k *parker) close() error {
	if k.file != nil {
		return k.file.Close()
	}
	return unix.Close(k.fd)
}
