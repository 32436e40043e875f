package epore

import (
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/sharedfd"
)

// changeShared does op on a socket of package socket, which is kept from being closed
// meanwhile, and learns where it is registered.
func (r *Registry) changeShared(op operation, s Source, d *sharedfd.Descriptor, token Token, in Interest) error {
	if !d.Acquire() {
		return &OpError{op.String(), fmt.Sprintf("%T", s), net.ErrClosed}
	}
	defer d.Release()
	if err := r.changeHandle(op, d.Handle(), token, in, d); err != nil {
		return &OpError{op.String(), fmt.Sprintf("%T (fd %d)", s, int(d.Handle())), err}
	}
	return nil
}

// attach tells d, after an operation that ended with err, whether h, its descriptor, is
// registered here. Under table.mu, so that what d knows is always so.
func (p *Poll) attach(h backend.Handle, d *sharedfd.Descriptor, err error) error {
	if _, known := p.table.index.get(h); !known {
		d.Detach((*sharedfdPoll)(p))
		return err
	}
	if d.Attach((*sharedfdPoll)(p)) {
		return err
	}
	// Its Close has begun beside this, and deregisters what was attached before; so
	// this was not. The descriptor is still open: we hold it.
	if derr := p.deregister(h); derr != nil {
		return fmt.Errorf("%w; and it cannot be deregistered: %w", net.ErrClosed, derr)
	}
	return net.ErrClosed
}

// sharedfdPoll is a Poll as the project's own sources know it.
type sharedfdPoll Poll

// Deregister implements [sharedfd.Poll]. It goes through no Registry: those can be closed,
// also the one that the Poll lends.
func (o *sharedfdPoll) Deregister(h backend.Handle) error {
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
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.closed.Load() {
		return nil
	}
	return p.deregister(h)
}

// WouldBlock implements [sharedfd.Poll].
func (o *sharedfdPoll) WouldBlock(h backend.Handle, in Interest) {
	p := (*Poll)(o)
	if p.edgeEmulator == nil {
		return
	}
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	i, known := p.table.index.get(h)
	if !known || p.closed.Load() {
		return
	}
	if _, registered := p.table.registration(i); registered.Has(Edge | in) {
		p.edgeEmulator.Rearm(h, in)
	}
}

// Closed implements [sharedfd.Poll].
func (o *sharedfdPoll) Closed() bool { return o.closed.Load() }
