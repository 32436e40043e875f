package epore

import (
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/slots"
)

// Hook lets code outside of this package take part in the turns of a Poll: the Poll calls a
// function of the Hook before it looks for events. The function is the place to submit in one
// system call what was asked for since the last turn, and to collect what has completed. It
// gives events by Wakers and Mailboxes. Package fileop is built on it.
//
// All methods may be called from any goroutine.
type Hook struct {
	poll   *Poll
	key    backend.Key // of the source, or 0
	handle backend.Handle
	turn   func()
	end    func() error

	requested atomic.Bool
	once      sync.Once
	err       error // of end
}

// hooks is the list of the Hooks of a Poll. It is replaced under slots' lock, and nil before
// the first one.
type hooks struct {
	list atomic.Pointer[[]*Hook]
	// registering counts the sources that the queue may report already, while their Hooks are
	// not in the list yet.
	registering atomic.Int32
}

// NewHook returns a Hook of the Poll of r. The goroutine that polls calls turn at the next
// Poll after each Request, before it asks the queue, and whenever source is readable. Many
// requests are answered by one call. The events of Wakers and Mailboxes that turn gives are
// delivered by the same Poll, or by the next if the same one had others already. turn must be
// quick. It must not use the Poll except through Wakers, Mailboxes and Timers. A call of turn
// makes no Poll return early by itself.
//
// source may be nil. Otherwise it is a raw descriptor, made by [FD], which gives no events of
// its own. The Hook registers it, edge-triggered if the queue supports that, and
// level-triggered otherwise; Level reports which. The caller keeps it open until end is
// called.
//
// end is called once, by Close of the Hook or by Close of its Poll, whichever comes first. It
// may be nil.
//
// NewHook fails with ErrClosed when r or the Poll is closed, with fs.ErrInvalid if turn is nil
// or source is not made by FD, and as [Registry.Register] if source cannot be registered. Then
// end is not called.
func NewHook(r *Registry, source Source, turn func(), end func() error) (*Hook, error) {
	h, err := newHook(r, source, turn, end)
	if err != nil {
		return nil, &OpError{"register", "a Hook", err}
	}
	return h, nil
}

func newHook(r *Registry, source Source, turn func(), end func() error) (*Hook, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	if turn == nil {
		return nil, fmt.Errorf("turn is nil: %w", fs.ErrInvalid)
	}
	d, ok := source.(*descriptor)
	if source != nil && (!ok || d == nil) {
		return nil, fmt.Errorf("the source of a Hook is a raw descriptor: make it with FD: %w", fs.ErrInvalid)
	}
	h := &Hook{poll: r.poll, turn: turn, end: end}
	if err := h.register(d); err != nil {
		return nil, err
	}
	if err := h.poll.addCloser(h); err != nil {
		h.unregister()
		return nil, err
	}
	return h, nil
}

// register adds the Hook and its source, which may be nil, to the Poll.
func (h *Hook) register(d *descriptor) error {
	p := h.poll
	p.slots.Lock()
	defer p.slots.Unlock()
	if p.closed.Load() {
		return ErrClosed
	}
	if d != nil {
		in := Readable
		if !h.Level() {
			in |= Edge
		}
		h.handle = backend.Handle(*d)
		p.hooks.registering.Add(1)
		defer p.hooks.registering.Add(-1)
		i, err := p.register(h.handle, 0, in)
		if err != nil {
			return err
		}
		p.inspection.spare(i)
		h.key, _ = p.slots.Registration(i)
	}
	p.hooks.change(func(list []*Hook) []*Hook { return append(list, h) })
	return nil
}

// unregister undoes register.
func (h *Hook) unregister() {
	p := h.poll
	p.slots.Lock()
	defer p.slots.Unlock()
	// The source first: until its events are stale, runReady must recognize them.
	if h.key != 0 && !p.released {
		if i, ok := p.slots.Lookup(h.handle); ok && i == slots.Index(h.key) {
			_ = p.deregister(h.handle)
		}
	}
	p.hooks.change(func(list []*Hook) []*Hook {
		return slices.DeleteFunc(list, func(other *Hook) bool { return other == h })
	})
}

// change replaces the list by what f makes of a copy. It requires slots' lock.
func (k *hooks) change(f func([]*Hook) []*Hook) {
	list := f(slices.Clone(k.all()))
	k.list.Store(&list)
}

// all returns the Hooks. Nobody changes the slice.
func (k *hooks) all() []*Hook {
	if list := k.list.Load(); list != nil {
		return *list
	}
	return nil
}

// hasSources reports whether events of the queue may be those of Hooks.
func (k *hooks) hasSources() bool { return k.list.Load() != nil || k.registering.Load() > 0 }

// requested reports whether a Hook is to be called.
func (k *hooks) requested() bool {
	for _, h := range k.all() {
		if h.requested.Load() {
			return true
		}
	}
	return false
}

// Level reports whether the source of the Hook is registered level-triggered. Then turn has
// to take away what makes it readable.
func (h *Hook) Level() bool { return h.poll != nil && !h.poll.caps.Interests.Has(Edge) }

// Request has the Poll call turn: in its next turn, which begins at once if the Poll waits.
// Requests coalesce until turn is called; that call sees everything that the callers did
// before. Request fails with ErrClosed when the Poll is closed. After Close of the Hook it
// does nothing. If the system fails to wake the Poll, Request returns that error, and turn is
// called with the next Poll.
func (h *Hook) Request() error {
	var err error
	switch {
	case h.poll == nil:
		err = errZeroValue
	case h.poll.closed.Load():
		err = ErrClosed
	case h.requested.CompareAndSwap(true, true) || h.requested.Swap(true): // see Poll.post
		return nil
	default:
		err = h.poll.interrupt()
	}
	if err != nil {
		return &OpError{"wake", "a Hook", err}
	}
	return nil
}

// Close removes the Hook, calls end and returns its error. A call of turn that is in progress
// on another goroutine may outlast Close. Closing again returns what the first Close returned.
func (h *Hook) Close() error {
	if h.poll == nil {
		return &OpError{"close", "a Hook", errZeroValue}
	}
	h.once.Do(func() {
		h.poll.removeCloser(h)
		h.unregister()
		if h.end != nil {
			h.err = h.end()
		}
	})
	return h.err
}

// runRequested calls the Hooks that were requested, and reports whether there were any. Only
// the waiter calls it, never between its announcement that it sleeps in the kernel and that
// sleep. It counts as awake meanwhile, so that no Hook wakes it.
func (p *Poll) runRequested() (ran bool) {
	for _, h := range p.hooks.all() {
		if h.requested.Load() && h.requested.Swap(false) {
			ran = true
			p.sleeping.Store(awake)
			h.turn()
		}
	}
	return ran
}

// runReady takes the events of the Hooks' sources out of batch, calls those Hooks, and returns
// how many events are left.
func (p *Poll) runReady(batch []backend.Event) (left int, ran bool) {
	if p.hooks.registering.Load() > 0 { // one of the events may be the first of a new Hook
		p.slots.Lock()   // register holds it until the Hook is in the list
		p.slots.Unlock() //lint:ignore SA2001 see above
	}
	list := p.hooks.all()
	if len(list) == 0 {
		return len(batch), false
	}
	for _, ev := range batch {
		i := slices.IndexFunc(list, func(h *Hook) bool { return h.key == ev.Key })
		if i < 0 {
			batch[left] = ev
			left++
			continue
		}
		ran = true
		p.sleeping.Store(awake)
		list[i].turn()
	}
	return left, ran
}
