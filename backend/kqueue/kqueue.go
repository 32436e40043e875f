//go:build unix

package kqueue

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fdtable"
	"github.com/epore/epore/internal/kq"
)

// Kqueue is a queue on kqueue(2). Create it with New. It serves one Poll. Its methods may
// be called from any goroutine, as far as [backend.Backend] allows.
type Kqueue struct {
	kernel kq.Kernel
	sys    kq.System
	fd     int
	waker  waker
	events []kq.Event // what the kernel writes to; used by Wait only

	// mu guards the fields below. Wait does not hold it while it is in the kernel: a
	// change takes effect there without help.
	mu         sync.Mutex
	records    fdtable.Table[record] // by descriptor
	changes    []kq.Event            // what apply hands to the kernel
	generation uint32                // of the latest registration
	processes  map[int]process       // the watched ones, by PID
	waitCount  uint32

	// brokenPipes are descriptors with events that the kernel does not report: see
	// record.broken. They and the kernel's events are the first of a batch in turn.
	brokenPipes []uint32
	brokenFirst bool
}

// record describes the registration of a descriptor.
type record struct {
	key backend.Key
	// generation identifies the registration in its knotes. An event with another
	// generation was received before a change, and is stale.
	generation uint32
	lastWait   uint32 // the Wait that reported it last, as event index of its batch
	index      uint32
	interest   backend.Interest
	filters    filters // the knotes that it has; it is not registered if there are none
	fired      bool    // it is one-shot and has had its event; its knotes are disabled
	// broken is what to report for a descriptor that the kernel no longer watches: the
	// writing end of a pipe without a reader. One knote remains, disabled, so that the
	// kernel knows whether the descriptor is registered.
	broken backend.Readiness
	queued bool // it is in Kqueue.brokenPipes
}

// New returns a kqueue. epore.NewWith opens it.
func New() *Kqueue { return NewOn(kq.Native()) }

// NewOn returns a queue on kernel k: a simulated one, in tests.
func NewOn(k kq.Kernel) *Kqueue { return &Kqueue{kernel: k} }

var _ backend.Backend = (*Kqueue)(nil)

// Name implements [backend.Backend].
func (q *Kqueue) Name() string { return "kqueue" }

// Open implements [backend.Backend].
func (q *Kqueue) Open() error {
	if q.kernel == nil {
		return fmt.Errorf("%s has no kqueue: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	fd, err := q.kernel.Kqueue()
	if err != nil {
		return fmt.Errorf("kqueue: %w", err)
	}
	q.fd, q.sys = fd, q.kernel.System()
	if q.waker, err = newWaker(q.kernel, q.sys, fd); err != nil {
		return errors.Join(err, q.kernel.Close(fd))
	}
	return nil
}

// Capabilities implements [backend.Backend].
func (q *Kqueue) Capabilities() backend.Capabilities {
	in := backend.Readable | backend.Writable | backend.Edge | backend.OneShot
	if q.sys.HasExcept {
		in |= backend.Priority
	}
	return backend.Capabilities{Interests: in, Resolution: time.Nanosecond}
}

// Wake implements [backend.Backend].
func (q *Kqueue) Wake() error { return q.waker.wake() }

// Close implements [backend.Backend].
func (q *Kqueue) Close() error {
	err := errors.Join(q.waker.close(), q.kernel.Close(q.fd))
	q.fd = -1 // for late calls: the number may have another owner
	return err
}
