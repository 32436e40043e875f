package epore

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/sharedfd"
)

// changeShared applies op to a socket of package socket. The socket is kept open
// meanwhile, and learns where it is registered.
func (r *Registry) changeShared(op operation, s Source, d *sharedfd.Descriptor, token Token, in Interest) error {
	if !d.Acquire() {
		return &OpError{op.String(), fmt.Sprintf("%T", s), errSocketClosed}
	}
	defer d.Release()
	if err := r.changeHandle(op, d.Handle(), token, in, d, nil); err != nil {
		return &OpError{op.String(), fmt.Sprintf("%T (fd %d)", s, int(d.Handle())), err}
	}
	return nil
}

// attach tells d whether its descriptor h is registered here. It requires the table's lock
// and that of d, so that what d knows is always true.
func (p *Poll) attach(h backend.Handle, d *sharedfd.Descriptor) {
	if _, registered := p.slots.Lookup(h); registered {
		d.Attach((*sharedPoll)(p))
	} else {
		d.Detach((*sharedPoll)(p))
	}
}

// sharedPoll is a Poll as the sockets of package socket see it.
type sharedPoll Poll

// Deregister implements [sharedfd.Poll]. It uses no Registry, because those can be
// closed.
func (o *sharedPoll) Deregister(h backend.Handle) error {
	p := (*Poll)(o)
	err := p.deregisterShared(h)
	if p.trace {
		p.log.Trace("deregister", "fd", int(h), "reason", "closing", "error", err)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &OpError{opDeregister.String(), fmt.Sprintf("fd %d", int(h)), err}
}

func (p *Poll) deregisterShared(h backend.Handle) error {
	p.slots.Lock()
	defer p.slots.Unlock()
	if p.closed.Load() {
		// The queue is closed, or is about to be. The loop over the current batch may go on.
		if i, registered := p.slots.Lookup(h); registered {
			p.forget(h, i)
		}
		return nil
	}
	return p.deregister(h)
}

// WouldBlock implements [sharedfd.Poll].
func (o *sharedPoll) WouldBlock(h backend.Handle, in Interest) {
	p := (*Poll)(o)
	if p.edgeEmulator == nil {
		return
	}
	p.slots.Lock()
	defer p.slots.Unlock()
	i, registered := p.slots.Lookup(h)
	if !registered || p.closed.Load() {
		return
	}
	if _, interest := p.slots.Registration(i); interest.Has(Edge | in) {
		p.edgeEmulator.Rearm(h, in)
	}
}

// Closed implements [sharedfd.Poll].
func (o *sharedPoll) Closed() bool { return o.closed.Load() }
