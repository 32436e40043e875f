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

// Pollfd is a queue on poll(2): an array, a pipe that ends a wait, and a record of what
// is registered. Create it with New. It serves one Poll. Its methods may be called from
// any goroutine, as far as [backend.Backend] allows.
type Pollfd struct {
	system

	mu   sync.Mutex
	wake pipe.Pipe
	ids  identities

	// fds is the array, with the reading end of the pipe first. entries describes its
	// elements. While a Wait sleeps in the kernel, they must not change: the kernel reads
	// and writes the array, and holds its files open.
	fds     []unix.PollFd
	entries []entry
	indexes fdtable.Table[int32] // the index in fds of each descriptor, or 0
	next    int                  // the index to look at first, so that all have their turn
	closed  []int32              // descriptors that the Wait in progress found closed
	pending bool                 // some entry has urgent data pending

	// asleep says that a Wait sleeps in the kernel. changing says that a change has woken
	// it, and goes first.
	asleep, changing bool
	cond             sync.Cond // on mu; signals that one of the two has become false
}

// entry describes a registration.
type entry struct {
	// fd is the descriptor. The array has -1 instead if poll(2) is to skip it.
	fd       int32
	key      backend.Key
	file     fileID
	interest backend.Interest
	// pending has the urgent data that a Wait had no room to report. A later call of
	// poll(2) reports every other condition again, but some files report this one only
	// to the first call.
	pending uint16
}

// system is what differs from one Unix to the next.
type system struct {
	resolution    time.Duration
	poll          func([]unix.PollFd, time.Duration) (int, error)
	newIdentities func() identities
}

// New returns a queue on poll(2). epore.NewWith opens it.
func New() *Pollfd { return &Pollfd{system: native} }

var _ backend.Backend = (*Pollfd)(nil)

// Name implements [backend.Backend].
func (p *Pollfd) Name() string { return "pollfd" }

// Open implements [backend.Backend].
func (p *Pollfd) Open(backend.Config) error {
	if p.poll == nil {
		return fmt.Errorf("zero Pollfd: create it with New: %w", unix.EINVAL)
	}
	wake, err := pipe.Open()
	if err != nil {
		return fmt.Errorf("pipe that wakes the queue: %w", err)
	}
	p.wake, p.ids, p.cond.L = wake, p.newIdentities(), &p.mu
	p.fds = append(p.fds, pollFd(wake.Reader, unix.POLLIN))
	p.entries = append(p.entries, entry{})
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
func (p *Pollfd) Close() error { return errors.Join(p.wake.Close(), p.ids.close()) }
