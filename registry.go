package epore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/nilvalue"
	"github.com/epore/epore/internal/sharedfd"
	"github.com/epore/epore/internal/slots"
	"github.com/epore/epore/internal/system"
)

// Registry registers sources with a Poll. All its methods may be called from any goroutine
// at any time, even while the Poll waits: when a source that is registered meanwhile
// becomes ready, the waiting Poll returns.
//
// [Poll.Registry] lends the Poll's Registry. [Registry.TryClone] returns one that the
// caller owns.
type Registry struct {
	poll   *Poll
	closed atomic.Bool
}

// Register starts watching s. Events carry token. interest says what to watch for and in
// which mode. A source that is ready already gives an event at the next Poll, in every
// mode.
//
// While s is registered, the Poll keeps it alive: the garbage collector does not close a
// connection or a file that the caller no longer refers to.
//
// A source is registered at most once with a Poll, but may be registered with several
// Polls. A second Register fails with fs.ErrExist and leaves the first registration as it
// is. Register fails with ErrNotPollable for a source that has no readiness to wait for,
// with net.ErrClosed for a closed source, with errors.ErrUnsupported for an interest that
// this queue does not support (see [Poll.Capabilities]), and with fs.ErrInvalid for an
// interest that makes no sense. All errors are of type [*OpError]. A Register that fails
// changes nothing.
func (r *Registry) Register(s Source, token Token, interest Interest) error {
	return r.change(opRegister, s, token, interest)
}

// Reregister replaces token, interest and mode of a registered source and arms it again:
// if it is ready now, an event follows. Once Reregister has returned, no event of the old
// registration is delivered.
//
// Reregister fails with fs.ErrNotExist if the source is not registered. After any other
// failure the registration is as it was. If the kernel has dropped it and refuses to take
// it back, the error says that it is gone.
func (r *Registry) Reregister(s Source, token Token, interest Interest) error {
	return r.change(opReregister, s, token, interest)
}

// Deregister stops watching s. Once it has returned, no event of s is delivered, neither
// by a later Poll nor by a loop over [Events.All] that is in progress. Deregister fails
// with fs.ErrNotExist if the source is not registered.
//
// Deregister a source before closing it. A source that was closed first can no longer be
// deregistered (fs.ErrNotExist and net.ErrClosed). Its number may be reused and registered
// again, and then only the new token is delivered. But a kernel that keeps the closed file
// alive also keeps watching it. epoll does so for as long as a duplicate of the descriptor
// is open somewhere. If the registration was level-triggered, a Poll with [Block] then no
// longer sleeps: it spins without returning an event. A parked Poll does so, too, when such
// events fill its whole batch. An io_uring keeps the file open by itself, until its number
// is registered or deregistered again.
func (r *Registry) Deregister(s Source) error {
	return r.change(opDeregister, s, 0, 0)
}

// TryClone returns another Registry of the same Poll, which the caller owns and closes.
// Closing one Registry closes no other. TryClone fails with ErrClosed when r or the Poll
// is closed.
func (r *Registry) TryClone() (*Registry, error) {
	if err := r.usable(); err != nil {
		return nil, &OpError{Op: "clone", Source: "the registry", Err: err}
	}
	return &Registry{poll: r.poll}, nil
}

// Close closes a Registry that TryClone returned: its other methods fail with ErrClosed
// from now on. What was registered through it stays registered, and the Poll and its other
// Registries are not affected. Closing again does nothing.
//
// The Registry that [Poll.Registry] lends cannot be closed: Close fails with
// fs.ErrInvalid and changes nothing.
func (r *Registry) Close() error {
	switch {
	case r.poll == nil:
		return &OpError{Op: "close", Source: "the registry", Err: errZeroValue}
	case r == &r.poll.registry:
		return &OpError{Op: "close", Source: "the registry", Err: errLentRegistry}
	}
	r.closed.Store(true)
	return nil
}

var errLentRegistry = fmt.Errorf("it belongs to its Poll: close the Poll, or close only what TryClone returns: %w", fs.ErrInvalid)

// usable returns the error that using this Registry gives, if any.
func (r *Registry) usable() error {
	if r == nil || r.poll == nil {
		return errZeroValue
	}
	if r.closed.Load() || r.poll.closed.Load() {
		return ErrClosed
	}
	return nil
}

// operation is one of the three ways to change a registration.
type operation uint8

const (
	opRegister operation = iota
	opReregister
	opDeregister
)

func (op operation) String() string {
	return [...]string{"register", "reregister", "deregister"}[op]
}

// change applies op to the descriptor of s.
func (r *Registry) change(op operation, s Source, token Token, in Interest) error {
	if err := r.usable(); err != nil {
		return &OpError{op.String(), "a source", err} // before whatever may be wrong with s
	}
	if d, ok := s.(*descriptor); ok {
		// The short way: no call through an interface, no allocation.
		if err := r.changeHandle(op, backend.Handle(*d), token, in, nil, nil); err != nil {
			return &OpError{op.String(), d.String(), err}
		}
		return nil
	}
	if nilvalue.Is(s) {
		return &OpError{op.String(), fmt.Sprintf("%T", s), fmt.Errorf("the source is nil: %w", fs.ErrInvalid)}
	}
	if d := sharedfd.Of(s); d != nil {
		return r.changeShared(op, s, d, token, in)
	}
	if name, err := r.changeConn(op, s, token, in); err != nil {
		return &OpError{op.String(), name, err}
	}
	return nil
}

// changeConn applies op to a source that must be asked for its descriptor, and that keeps
// the descriptor open meanwhile. It returns the source's name for error messages.
func (r *Registry) changeConn(op operation, s Source, token Token, in Interest) (string, error) {
	raw, err := s.SyscallConn()
	if err != nil {
		return fmt.Sprintf("%T", s), fmt.Errorf("its SyscallConn fails: %w", err)
	}
	if raw == nil {
		return fmt.Sprintf("%T", s), fmt.Errorf("its SyscallConn is nil: %w", fs.ErrInvalid)
	}
	c := connChanges.Get().(*connChange)
	defer c.release()
	c.registry, c.op, c.source, c.token, c.interest = r, op, s, token, in
	err = raw.Control(c.do)
	switch {
	case c.called: // then its result counts, whatever else Control says
		if c.err == nil {
			return "", nil
		}
		return fmt.Sprintf("%T (fd %d)", s, int(c.handle)), c.err
	case err != nil:
		if _, ok := s.(*os.File); ok && !errors.Is(err, fs.ErrClosed) {
			// The only way in which this fails. The error is of no known kind.
			err = fmt.Errorf("%w: %w", fs.ErrClosed, err)
		}
		return fmt.Sprintf("%T", s), err
	}
	return fmt.Sprintf("%T", s), fmt.Errorf("its Control did not call back: %w", fs.ErrInvalid)
}

// connChange is one operation on a source that must be asked for its descriptor. It is
// pooled, because a closure and its variables cost allocations.
type connChange struct {
	registry *Registry
	op       operation
	source   Source
	token    Token
	interest Interest
	do       func(fd uintptr)

	called bool
	handle backend.Handle
	err    error
}

var connChanges = sync.Pool{New: func() any {
	c := new(connChange)
	c.do = func(fd uintptr) {
		if c.registry == nil || c.called {
			return // called back after Control has returned, or twice
		}
		c.called, c.handle = true, backend.Handle(fd)
		c.err = c.registry.changeHandle(c.op, c.handle, c.token, c.interest, nil, c.source)
	}
	return c
}}

func (c *connChange) release() {
	called := c.called
	*c = connChange{do: c.do}
	if called { // or else it may still be called, and must not be that of another operation
		connChanges.Put(c)
	}
}

// changeHandle applies op to h. This is the one place where table and backend change,
// and they change together. shared is the descriptor of h if that is a socket of package
// socket. keep is the source if the table must keep it alive.
//
// changeHandle and what it calls are few functions on purpose: each function around a
// system call costs some 7 ns, probably because its return is mispredicted.
func (r *Registry) changeHandle(op operation, h backend.Handle, token Token, in Interest, shared *sharedfd.Descriptor, keep Source) (err error) {
	p := r.poll
	if p.trace { // after the lock is released, because a logger may use the Poll
		defer func() {
			p.log.Trace(op.String(), "fd", int(h), "token", uint64(token), "interest", in, "error", err)
		}()
	}
	p.slots.Lock()
	defer p.slots.Unlock()
	err = r.usable()
	if err == nil && op != opDeregister {
		err = p.checkInterest(in, shared != nil)
	}
	if err != nil {
		return err
	}
	if shared != nil {
		// Held until the socket knows of the registration, so that a concurrent Close
		// deregisters it before it returns.
		open := shared.Lock()
		defer shared.Unlock()
		if !open && op != opDeregister {
			return errSocketClosed
		}
	}
	switch op {
	case opRegister:
		inspect, marked := p.inspection.queue != nil && shared == nil && !knownKind(keep), in
		if inspect && in.Has(OneShot) {
			marked |= slots.RecordsDelivery // see inspection.marked
		}
		var i uint32
		i, err = p.register(h, token, marked)
		if err == nil && keep != nil {
			p.keepAlive(i, keep)
		}
		if err == nil && inspect && p.mustInspect(i) {
			p.inspectLater(i)
		}
	case opReregister:
		err = p.reregister(h, token, in)
		if err == nil && keep != nil {
			i, _ := p.slots.Lookup(h)
			p.keepAlive(i, keep)
		}
	case opDeregister:
		err = p.deregister(h)
	}
	if shared != nil {
		p.attach(h, shared)
	}
	return err
}

// checkInterest refuses an interest that makes no sense or that this queue does not
// support. shared says that the source is a socket of package socket.
func (p *Poll) checkInterest(in Interest, shared bool) error {
	switch {
	case in.Unknown() != 0:
		return fmt.Errorf("interest %v has unknown bits: %w", in, fs.ErrInvalid)
	case in&backend.Conditions == 0:
		return fmt.Errorf("interest %v lacks Readable, Writable or Priority: %w", in, fs.ErrInvalid)
	case in.Has(Exclusive | OneShot):
		return fmt.Errorf("interest %v combines Exclusive and OneShot, which exclude each other: %w", in, fs.ErrInvalid)
	}
	supported := p.caps.Interests
	if shared && p.edgeEmulator != nil {
		supported |= Edge
	}
	if missing := in &^ supported; missing != 0 {
		return fmt.Errorf("%s does not support %v: %w", p.be.Name(), missing, errors.ErrUnsupported)
	}
	return nil
}

// register, reregister and deregister require the table's lock.
//
// The kernel decides whether h is registered. The table would be wrong about a descriptor
// that was closed without Deregister and whose number was reused.
func (p *Poll) register(h backend.Handle, token Token, in Interest) (i uint32, err error) {
	if h == slots.NoHandle {
		return 0, system.BadDescriptor // the number -1, which some backend might take
	}
	old, known := p.slots.Lookup(h)
	key := p.slots.Insert(h, uint64(token), in)
	in &^= slots.ForTheTable
	i = slots.Index(key)
	err = p.be.Add(h, key, in)
	if err != nil && !known && errors.Is(err, fs.ErrExist) {
		// The kernel knows a registration that the table does not: a descriptor that was
		// closed before Deregister was brought back to its number by dup2. Take it over.
		err = p.be.Modify(h, key, in)
	}
	if err != nil {
		p.removeSlot(i)
		return i, err
	}
	if known {
		p.removeSlot(old)
	}
	p.slots.Bind(h, i)
	if p.parker != nil {
		p.crowd.count()
	}
	return i, nil
}

func (p *Poll) reregister(h backend.Handle, token Token, in Interest) error {
	i, known := p.slots.Lookup(h)
	if !known {
		return syscall.ENOENT
	}
	ready := p.inspectBefore(i, h, in)
	err := p.be.Modify(h, p.slots.NextKey(i), in)
	switch {
	case err == nil:
		p.slots.Replace(i, uint64(token), p.inspection.marked(i, in))
	case errors.Is(err, backend.ErrLost):
		key, in := p.slots.Registration(i)
		if again := p.be.Add(h, key, in); again != nil {
			p.forget(h, i)
			return fmt.Errorf("%w; and the old registration could not be restored, it is gone: %w", err, again)
		}
	case gone(err):
		p.forget(h, i)
		return goneError(err)
	}
	if ready != 0 {
		p.inspectAfter(i, ready)
	}
	return err
}

func (p *Poll) deregister(h backend.Handle) error {
	i, known := p.slots.Lookup(h)
	if !known {
		return syscall.ENOENT
	}
	err := p.be.Delete(h)
	switch {
	case err == nil:
		p.forget(h, i)
	case gone(err):
		p.forget(h, i)
		return goneError(err)
	}
	return err
}

// forget drops the registration of h in slot i from the table.
func (p *Poll) forget(h backend.Handle, i uint32) {
	p.slots.Unbind(h)
	p.removeSlot(i)
}

func (p *Poll) removeSlot(i uint32) {
	p.slots.Remove(i)
	if p.keepsSources {
		p.sources.Drop(uintptr(i))
	}
	if p.inspection.once.Load() > 0 {
		p.forgetInspection(i)
	}
}

// keepAlive makes the registration in slot i refer to s, so that no finalizer closes s.
func (p *Poll) keepAlive(i uint32, s Source) {
	p.keepsSources = true
	*p.sources.Add(uintptr(i)) = s
}

// gone reports whether err says that a handle that the table knows is no longer watched:
// it was closed, and its number may by now belong to something else, even to something
// that cannot be watched.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, system.BadDescriptor) || errors.Is(err, backend.ErrNotPollable)
}

// goneError returns the error for a handle that is gone: whatever cannot be watched is,
// first of all, not registered.
func goneError(err error) error {
	if errors.Is(err, backend.ErrNotPollable) {
		return syscall.ENOENT
	}
	return err
}
