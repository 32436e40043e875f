// Package sharedfd is what the core and the project's own sockets know of each other,
// and nobody else: a [Descriptor] that is open for as long as somebody uses it, and
// that knows the Polls with which it is registered.
package sharedfd

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/epore/epore/backend"
)

// Poll is a Poll of package epore, as a Descriptor sees it.
type Poll interface {
	// Deregister ends the registration of h; it is no error if there is none.
	Deregister(h backend.Handle) error
	// WouldBlock says that an operation on h, a reading or a writing one, has
	// answered "would block": see [backend.EdgeEmulator].
	WouldBlock(h backend.Handle, in backend.Interest)
	// Closed reports that the Poll has no registrations any more.
	Closed() bool
}

// Descriptor is a descriptor that is used by several goroutines and closed by any:
// Close makes it unusable at once, and deregisters it; the system's close comes when
// nobody is in the middle of an operation any more, so that no operation ever meets
// the next owner of the number. The zero Descriptor is closed.
type Descriptor struct {
	// state counts who holds the descriptor, in steps of holder; its lowest bit says
	// that it is open. At zero it is closed, and stays so.
	state  atomic.Uint32
	handle backend.Handle

	// mu guards the Polls; taken after the lock of a Poll, never before it.
	mu   sync.Mutex
	poll Poll    // mostly there is one
	more *[]Poll // or some
}

const (
	isOpen = 1
	holder = 2
)

// Open makes h the descriptor. It is called once, before anybody else knows d.
func (d *Descriptor) Open(h backend.Handle) {
	d.handle = h
	d.state.Store(isOpen)
}

// Handle is the descriptor. It may be used between Acquire and Release.
func (d *Descriptor) Handle() backend.Handle { return d.handle }

// Acquire keeps the descriptor from being closed until Release. False: it is closed.
func (d *Descriptor) Acquire() bool {
	for {
		s := d.state.Load()
		if s&isOpen == 0 {
			return false
		}
		if d.state.CompareAndSwap(s, s+holder) {
			return true
		}
	}
}

// Release ends what Acquire began. The last one after Close closes the descriptor.
func (d *Descriptor) Release() {
	if d.state.Add(^uint32(holder-1)) == 0 {
		_ = closeHandle(d.handle)
	}
}

// Close deregisters the descriptor everywhere and closes it, at once or when the
// last one has released it. Closing again is false.
func (d *Descriptor) Close() (closed bool, err error) {
	for {
		s := d.state.Load()
		if s&isOpen == 0 {
			return false, nil
		}
		if d.state.CompareAndSwap(s, s-isOpen+holder) {
			break
		}
	}
	// From here on nobody can attach. Not under mu: Polls call Attach under their
	// own lock.
	d.mu.Lock()
	first, more := d.poll, d.more
	d.poll, d.more = nil, nil
	d.mu.Unlock()
	if first != nil {
		err = first.Deregister(d.handle)
	}
	if more != nil {
		for _, p := range *more {
			err = errors.Join(err, p.Deregister(d.handle))
		}
	}
	if d.state.Add(^uint32(holder-1)) == 0 {
		err = errors.Join(err, closeHandle(d.handle))
	}
	return true, err
}

// Attach notes that p watches d. A Poll calls it under its own lock, in which it has
// just registered d; false says that d has been closed meanwhile, and that nobody
// else will deregister it.
func (d *Descriptor) Attach(p Poll) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	// Close leaves the state first and looks for Polls afterwards, under mu: either
	// it finds this one, or this finds it closed.
	if d.state.Load()&isOpen == 0 {
		return false
	}
	switch {
	case d.poll == p:
	case d.poll == nil || d.poll.Closed():
		d.poll = p
		d.forget(p) // if it was one of several
	case d.more == nil:
		d.more = &[]Poll{p}
	default:
		*d.more = slices.DeleteFunc(*d.more, Poll.Closed)
		if !slices.Contains(*d.more, p) {
			*d.more = append(*d.more, p)
		}
	}
	return true
}

// Detach notes that p watches d no more, under the same lock.
func (d *Descriptor) Detach(p Poll) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.poll == p {
		d.poll = nil
		return
	}
	d.forget(p)
}

// forget removes p from those beyond the first. Under mu.
func (d *Descriptor) forget(p Poll) {
	if d.more == nil {
		return
	}
	*d.more = slices.DeleteFunc(*d.more, func(q Poll) bool { return p == q })
	if len(*d.more) == 0 {
		d.more = nil
	}
}

// WouldBlock tells the Polls that an operation, a reading or a writing one, has
// answered "would block". To be called between Acquire and Release.
func (d *Descriptor) WouldBlock(in backend.Interest) {
	d.mu.Lock()
	first, more := d.poll, d.more
	var others []Poll
	if more != nil {
		others = slices.Clone(*more)
	}
	d.mu.Unlock()
	if first != nil {
		first.WouldBlock(d.handle, in)
	}
	for _, p := range others {
		p.WouldBlock(d.handle, in)
	}
}

// Socket is what the project's own sockets embed. It gives them no method that
// others could call.
type Socket struct{ descriptor Descriptor }

func (s *Socket) sharedDescriptor() *Descriptor { return &s.descriptor }

// In returns the Descriptor in s.
func In(s *Socket) *Descriptor { return &s.descriptor }

// Of returns the Descriptor of a source, or nil if the source is not the project's
// own.
func Of(source any) *Descriptor {
	if s, ok := source.(interface{ sharedDescriptor() *Descriptor }); ok {
		return s.sharedDescriptor()
	}
	return nil
}
