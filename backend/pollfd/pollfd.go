//go:build unix

package pollfd

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/pipe"
	"github.com/epore/epore/internal/fdtable"
)

// Pollfd is a queue on poll(2): a record of what is registered, the array that a Wait makes
// of it, and a pipe that ends a Wait. Create it with New. It serves one Poll. Its methods
// may be called from any goroutine, as far as [backend.Backend] allows.
type Pollfd struct {
	system
	caller
	wake pipe.Pipe
	ids  identities

	// mu guards the fields up to cond. It is never held during poll(2), nor while the
	// identity of a file is checked: the scheduler may take the processor from a
	// goroutine there, and a change would wait until that runs again.
	mu         sync.Mutex
	entries    []entry              // the registrations, after the reserved ones
	indexes    fdtable.Table[int32] // the index in entries of each descriptor, or 0
	generation uint32               // of the latest change
	dirty      []int32              // indexes of the entries that changed since the latest update
	allDirty   bool                 // all of them did
	pending    bool                 // some entry has pending bits

	// asleep says that a Wait sleeps in the kernel, which holds the files of the array
	// open; woken, that it was woken. deleting says that a Delete is in progress, for
	// which the next Wait waits.
	asleep, woken, deleting bool
	cond                    sync.Cond // on mu; signals that asleep or deleting became false

	// The fields below are used by Wait only.
	array   []unix.PollFd
	polled  []entry // the entries as they were when they went into array
	next    int     // the index to look at first, so that all have their turn
	results []result
}

// entry describes a registration.
type entry struct {
	fd int32
	// generation identifies the registration. If it is another one when the result of a
	// Wait comes, that is stale.
	generation uint32
	key        backend.Key
	file       fileID
	interest   backend.Interest
	fired      bool // it is one-shot and has had its event; poll(2) skips it
	// once says that the file may report a condition only to the first call that polls it.
	// Every file may do so with urgent data.
	once bool
	// pending has what such a file reported and no Wait has reported yet.
	pending uint16
}

// The array begins with elements that are not registrations.
const (
	pipeIndex   = iota // the pipe that ends a Wait
	callerIndex        // for the caller; -1 outside of its poll
	reserved
)

// system is what differs from one Unix to the next.
type system struct {
	resolution    time.Duration
	newCaller     func() caller
	newIdentities func() identities
	// reportsOnce reports whether a file may report a condition only to the first call that
	// polls it, which its identity may do, too. It is nil where no file is known to.
	reportsOnce func(h backend.Handle) bool
}

// caller calls poll(2).
type caller interface {
	// poll waits for events of array, which has a free element at callerIndex. If timeout
	// is negative, it waits indefinitely.
	poll(array []unix.PollFd, timeout time.Duration) (int, error)
	close() error
}

// New returns a queue on poll(2). epore.NewWith opens it.
func New() *Pollfd { return &Pollfd{system: native} }

var _ backend.Backend = (*Pollfd)(nil)

// Name implements [backend.Backend].
func (p *Pollfd) Name() string { return "pollfd" }

// Open implements [backend.Backend].
func (p *Pollfd) Open() error {
	if p.newCaller == nil {
		return fmt.Errorf("zero Pollfd: create it with New: %w", unix.EINVAL)
	}
	wake, err := pipe.Open()
	if err != nil {
		return fmt.Errorf("pipe that wakes the queue: %w", err)
	}
	p.wake, p.caller, p.ids, p.cond.L = wake, p.newCaller(), p.newIdentities(), &p.mu
	p.entries = []entry{
		pipeIndex:   {fd: int32(wake.Reader), interest: backend.Readable},
		callerIndex: {fd: -1},
	}
	p.allDirty = true
	return nil
}

// Capabilities implements [backend.Backend].
func (p *Pollfd) Capabilities() backend.Capabilities {
	return backend.Capabilities{
		Interests:  backend.Readable | backend.Writable | backend.Priority | backend.OneShot,
		Resolution: p.resolution,
	}
}

// Wake implements [backend.Backend].
func (p *Pollfd) Wake() error { return p.wake.Write() }

// Close implements [backend.Backend].
func (p *Pollfd) Close() error {
	return errors.Join(p.wake.Close(), p.caller.close(), p.ids.close())
}
