// Package sharedfd connects package epore and package socket: its [Descriptor] stays open for
// as long as an operation uses it, and records the Polls that it is registered with, so that
// Close can deregister it.
package sharedfd

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/simfd"
)

// Poll has the methods of a Poll of package epore that a Descriptor needs.
type Poll interface {
	// Deregister ends the registration of h. If h is not registered, it returns nil.
	Deregister(h backend.Handle) error
	// WouldBlock reports that a read or a write of h would have blocked: see
	// [backend.EdgeEmulator].
	WouldBlock(h backend.Handle, in backend.Interest)
	// Closed reports whether the Poll is closed: then it has no registrations.
	Closed() bool
}

// Descriptor is a descriptor that several goroutines use, and that any of them may close.
// Close makes it unusable at once, and deregisters it. The system call close follows when no
// operation uses it any more, so that no operation ever reaches the next file that gets the
// same number. The zero Descriptor is closed.
type Descriptor struct {
	// state counts the holders of the descriptor, in steps of holder; its lowest bit is
	// set while it is open. At zero it is closed, and stays closed.
	state  atomic.Uint32
	handle backend.Handle

	// mu guards the Polls. A Poll holds it, and its own lock, from before its backend
	// learns of a registration until Attach has recorded it. Lock order: the lock of a Poll
	// before mu. Close and WouldBlock call Polls only after they have released mu, and under
	// mu nothing calls anything that locks, so that no cycle is possible.
	mu   sync.Mutex
	poll Poll    // usually one
	more *[]Poll // rarely several
}

const (
	isOpen = 1
	holder = 2
)

// Open makes h the descriptor. It is called once, before another goroutine knows d.
func (d *Descriptor) Open(h backend.Handle) {
	d.handle = h
	d.state.Store(isOpen)
}

// Handle returns the descriptor. Use it only between Acquire and Release.
func (d *Descriptor) Handle() backend.Handle { return d.handle }

// Acquire keeps the descriptor open until Release. It returns false if it is closed.
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

// Release undoes an Acquire. After Close, the last Release closes the descriptor.
func (d *Descriptor) Release() {
	if d.state.Add(^uint32(holder-1)) == 0 {
		_ = d.closeHandle()
	}
}

// Close deregisters the descriptor from every Poll, and closes it: at once, or when its last
// holder releases it. If it is closed already, Close returns false.
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
	// From here on Lock reports closed, so no registration begins. Taking mu waits for one
	// that has begun: only then do the Polls include it.
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
		err = errors.Join(err, d.closeHandle())
	}
	return true, err
}

func (d *Descriptor) closeHandle() error {
	if simfd.Is(d.handle) {
		return simfd.Close(d.handle)
	}
	return closeHandle(d.handle)
}

// Lock keeps Close from returning until Unlock, and reports whether d is open. A Poll calls it
// with its own lock held, before it changes a registration of d. Otherwise events of a new
// registration could be delivered after a concurrent Close has returned, until the Poll
// notices that d is closed.
func (d *Descriptor) Lock() (open bool) {
	d.mu.Lock()
	return d.state.Load()&isOpen != 0
}

// Unlock undoes Lock.
func (d *Descriptor) Unlock() { d.mu.Unlock() }

// Attach records that p watches d. It is called between Lock and Unlock.
func (d *Descriptor) Attach(p Poll) {
	switch {
	case d.poll == p:
	case d.poll == nil || d.poll.Closed():
		d.poll = p
		d.forget(p) // it may be in the list
	case d.more == nil:
		d.more = &[]Poll{p}
	default:
		*d.more = slices.DeleteFunc(*d.more, Poll.Closed)
		if !slices.Contains(*d.more, p) {
			*d.more = append(*d.more, p)
		}
	}
}

// Detach records that p no longer watches d. It is called between Lock and Unlock.
func (d *Descriptor) Detach(p Poll) {
	if d.poll == p {
		d.poll = nil
		return
	}
	d.forget(p)
}

// forget removes p from the list. Called with mu held.
func (d *Descriptor) forget(p Poll) {
	if d.more == nil {
		return
	}
	*d.more = slices.DeleteFunc(*d.more, func(q Poll) bool { return p == q })
	if len(*d.more) == 0 {
		d.more = nil
	}
}

// WouldBlock reports to the Polls that a read or a write would have blocked. Called between
// Acquire and Release.
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

// Socket is embedded in the sockets of package socket. It gives them no exported method.
type Socket struct{ descriptor Descriptor }

func (s *Socket) sharedDescriptor() *Descriptor { return &s.descriptor }

// In returns the Descriptor of s.
func In(s *Socket) *Descriptor { return &s.descriptor }

// Of returns the Descriptor of a source, or nil if the source is not a socket of package
// socket. A struct may embed a pointer to a socket: if that pointer is nil, Of returns a
// Descriptor that is closed.
func Of(source any) (d *Descriptor) {
	s, ok := source.(interface{ sharedDescriptor() *Descriptor })
	if !ok {
		return nil
	}
	defer func() {
		if d == nil { // the method was promoted through a nil pointer, and panics
			_ = recover()
			d = new(Descriptor)
		}
	}()
	return s.sharedDescriptor()
}
