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
)

// Registry registers sources with a Poll. All its methods may be called from
// any goroutine at any time, also while the Poll waits: a source that becomes
// ready ends the wait without further ado.
//
// [Poll.Registry] lends the Poll's own; [Registry.TryClone] gives one to keep.
type Registry struct {
	poll   *Poll
	closed atomic.Bool
}

// Register starts watching s. Events carry token; interest says what for and in
// which mode. A source that is ready already gives an event at the next Poll,
// in every mode.
//
// A source is registered once with a Poll, but may be with several Polls; a
// second Register fails with fs.ErrExist and disturbs nothing. What can never
// be waited for fails with ErrNotPollable, a closed source with net.ErrClosed,
// what this queue cannot do with errors.ErrUnsupported (see
// [Poll.Capabilities]), a senseless interest with fs.ErrInvalid. All failures
// are of type [*OpError] and leave everything as it was.
func (r *Registry) Register(s Source, token Token, interest Interest) error {
	return r.change(opRegister, s, token, interest)
}

// Reregister replaces token, interest and mode of a registered source and arms
// it again: if it is ready now, an event follows. Once Reregister has
// returned, no event of the old registration is delivered any more.
//
// A source that is not registered fails with fs.ErrNotExist. After any other
// failure the registration is as it was; should the kernel have dropped it and
// refuse to take it back, the error says that it is gone.
func (r *Registry) Reregister(s Source, token Token, interest Interest) error {
	return r.change(opReregister, s, token, interest)
}

// Deregister stops watching s. Once it has returned, no event of s is
// delivered any more, neither by a later Poll nor by a loop over [Events.All]
// that is under way. A source that is not registered fails with
// fs.ErrNotExist.
//
// Deregister before closing. A source that was closed first cannot be
// deregistered (fs.ErrNotExist and net.ErrClosed); its number may be used and
// registered anew, and gives only the new token. But where a kernel keeps the
// closed file alive it keeps watching it: epoll for as long as a duplicate of
// the descriptor is open somewhere. If it was level-triggered, that costs a
// Poll with [Block] its sleep (it returns no event, but spins), and a parked
// one too when it fills all of events. An io_uring itself keeps the file open,
// until its number is registered or deregistered again.
func (r *Registry) Deregister(s Source) error {
	return r.change(opDeregister, s, 0, 0)
}

// TryClone returns another Registry of the same Poll, to be owned and closed by
// whoever asked for it. Closing one closes no other. It fails with ErrClosed.
func (r *Registry) TryClone() (*Registry, error) {
	if err := r.usable(); err != nil {
		return nil, &OpError{Op: "clone", Source: "the registry", Err: err}
	}
	return &Registry{poll: r.poll}, nil
}

// Close makes this Registry answer ErrClosed from now on. What was registered
// through it stays registered, and its Poll and other clones go on. Closing
// again does nothing.
func (r *Registry) Close() error {
	r.closed.Store(true)
	return nil
}

// usable says why this Registry cannot be used, if so.
func (r *Registry) usable() error {
	if r == nil || r.poll == nil {
		return errMadeByHand
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

// change does op on whatever descriptor s has.
func (r *Registry) change(op operation, s Source, token Token, in Interest) error {
	if err := r.usable(); err != nil {
		return &OpError{op.String(), "a source", err} // rather than what may be wrong with s
	}
	if d, ok := s.(*descriptor); ok {
		// The short way: no call through an interface, nothing allocated.
		if err := r.changeHandle(op, backend.Handle(*d), token, in, nil); err != nil {
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

// changeConn does op on a source that has to be asked for its descriptor, and
// keeps the descriptor from being closed meanwhile. It returns what to call
// the source in an error.
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
	c.registry, c.op, c.token, c.interest = r, op, token, in
	err = raw.Control(c.do)
	switch {
	case err != nil:
		if _, ok := s.(*os.File); ok && !errors.Is(err, fs.ErrClosed) {
			// The one way in which this fails, with an error of no known kind.
			err = fmt.Errorf("%w: %w", fs.ErrClosed, err)
		}
		return fmt.Sprintf("%T", s), err
	case !c.called:
		return fmt.Sprintf("%T", s), fmt.Errorf("its Control did not call back: %w", fs.ErrInvalid)
	case c.err != nil:
		return fmt.Sprintf("%T (fd %d)", s, int(c.handle)), c.err
	}
	return "", nil
}

// connChange is one operation on a source that is asked for its descriptor. It
// is used again, because a closure and its variables cost allocations.
type connChange struct {
	registry *Registry
	op       operation
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
		if c.registry == nil {
			return // called back after Control has returned: too late
		}
		c.called, c.handle = true, backend.Handle(fd)
		c.err = c.registry.changeHandle(c.op, c.handle, c.token, c.interest, nil)
	}
	return c
}}

func (c *connChange) release() {
	*c = connChange{do: c.do}
	connChanges.Put(c)
}

// changeHandle does op on h, the descriptor of d if that is one of the project's own. It
// is the one place where table and backend change, and together.
//
// It and what is below it are few functions on purpose: each one around a system call costs
// some 7 ns, probably because its return is mispredicted.
func (r *Registry) changeHandle(op operation, h backend.Handle, token Token, in Interest, d *sharedfd.Descriptor) (err error) {
	p := r.poll
	if p.trace { // when the lock is released: a logger may well use the Poll
		defer func() {
			p.log.Trace(op.String(), "fd", int(h), "token", uint64(token), "interest", in, "error", err)
		}()
	}
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	err = r.usable()
	if err == nil && op != opDeregister {
		err = p.checkInterest(in, d != nil)
	}
	if err != nil {
		return err
	}
	switch op {
	case opRegister:
		err = p.register(h, token, in)
	case opReregister:
		err = p.reregister(h, token, in)
	case opDeregister:
		err = p.deregister(h)
	}
	if d != nil {
		err = p.attach(h, d, err)
	}
	return err
}

// checkInterest refuses what means nothing, and what this queue cannot do, for one of
// the project's own sources or another.
func (p *Poll) checkInterest(in Interest, own bool) error {
	switch {
	case in.Unknown() != 0:
		return fmt.Errorf("interest %v has unknown bits: %w", in, fs.ErrInvalid)
	case in&backend.Conditions == 0:
		return fmt.Errorf("interest %v lacks Readable, Writable or Priority: %w", in, fs.ErrInvalid)
	case in.Has(Exclusive | OneShot):
		return fmt.Errorf("interest %v has both Exclusive and OneShot, which do not go together: %w", in, fs.ErrInvalid)
	}
	can := p.caps.Interests
	if own && p.edgeEmulator != nil {
		can |= Edge
	}
	if lacking := in &^ can; lacking != 0 {
		return fmt.Errorf("%s has no %v: %w", p.be.Name(), lacking, errors.ErrUnsupported)
	}
	return nil
}

// register: under table.mu, as the next two.
//
// Whether h is registered, the kernel says: the table would be wrong about a
// descriptor that was closed without Deregister and whose number came back.
func (p *Poll) register(h backend.Handle, token Token, in Interest) error {
	old, known := p.table.index.get(h)
	key := p.table.insert(h, token, in)
	in &^= onlyReadable
	err := p.be.Add(h, key, in)
	if err != nil && !known && errors.Is(err, fs.ErrExist) {
		// Registered, says the kernel, but not by us: a descriptor closed before
		// Deregister was brought back to its number by dup2. It is taken over.
		err = p.be.Modify(h, key, in)
	}
	if err != nil {
		p.table.remove(keyIndex(key))
		return err
	}
	if known {
		p.table.remove(old)
	}
	p.table.index.put(h, keyIndex(key))
	return nil
}

func (p *Poll) reregister(h backend.Handle, token Token, in Interest) error {
	i, known := p.table.index.get(h)
	if !known {
		return syscall.ENOENT
	}
	err := p.be.Modify(h, p.table.nextKey(i), in)
	switch {
	case err == nil:
		p.table.replace(i, token, in)
	case errors.Is(err, backend.ErrLost):
		key, in := p.table.registration(i)
		if again := p.be.Add(h, key, in); again != nil {
			p.forget(h, i)
			return fmt.Errorf("%w; and the old registration could not be restored, it is gone: %w", err, again)
		}
	case gone(err):
		p.forget(h, i)
		return goneError(err)
	}
	return err
}

func (p *Poll) deregister(h backend.Handle) error {
	i, known := p.table.index.get(h)
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

// forget drops a registration from the table.
func (p *Poll) forget(h backend.Handle, i uint32) {
	p.table.index.drop(h)
	p.table.remove(i)
}

// gone reports that a handle that the table knows is not watched any more: it
// was closed; its number may belong to something else by now, even to something
// that cannot be watched.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errBadDescriptor) || errors.Is(err, backend.ErrNotPollable)
}

// goneError says so: what cannot be watched is first of all not registered.
func goneError(err error) error {
	if errors.Is(err, backend.ErrNotPollable) {
		return syscall.ENOENT
	}
	return err
}
