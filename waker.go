package epore

import (
	"sync/atomic"

	"github.com/epore/epore/internal/slots"
)

// Waker makes a Poll return from another goroutine, with an event that carries the
// Waker's token. It needs no descriptor. A Poll may have any number of Wakers. All
// methods may be called from any goroutine.
type Waker struct {
	poll   *Poll
	closed atomic.Bool
	local  localSource
}

// NewWaker returns a Waker of the Poll of r, whose events carry token. It fails with
// ErrClosed when r or the Poll is closed. Closing r later does not affect the Waker.
func NewWaker(r *Registry, token Token) (*Waker, error) {
	err := r.usable()
	if err == nil {
		var w *Waker
		if w, err = newWaker(r.poll, localWaker, token); err == nil {
			return w, nil
		}
	}
	return nil, &OpError{"register", "a Waker", err}
}

func newWaker(p *Poll, kind localKind, token Token) (*Waker, error) {
	key, err := p.newLocal(kind, token)
	if err != nil {
		return nil, err
	}
	return &Waker{poll: p, local: localSource{key: key}}, nil
}

// Wake gives one event, readable and with the Waker's token, to the Poll in progress or
// else to the next one. Wakes before that event is delivered coalesce into it. A Wake is
// never lost: the goroutine that handles the event sees everything that the caller did
// before it called Wake.
//
// Wake fails with ErrClosed when the Waker or its Poll is closed. It does not block.
// When it coalesces, or when no Poll is waiting, it makes no system call.
func (w *Waker) Wake() error {
	var err error
	switch {
	case w.poll == nil:
		err = errZeroValue
	case w.closed.Load() || w.poll.closed.Load():
		err = ErrClosed
	default:
		err = w.poll.post(&w.local)
	}
	if err != nil {
		return &OpError{"wake", "a Waker", err}
	}
	return nil
}

// Pending reports whether a Wake waits to be delivered. From when a Poll has taken the event
// into its batch, Pending is false, and the next Wake gives a further event.
func (w *Waker) Pending() bool { return w.local.pending.Load() }

// Close removes the Waker. Its events are no longer delivered, not even one that is in the
// current batch. Closing again does nothing.
func (w *Waker) Close() error {
	if w.poll == nil {
		return &OpError{"close", "a Waker", errZeroValue}
	}
	t := &w.poll.slots
	t.Lock()
	defer t.Unlock()
	if !w.closed.Swap(true) {
		t.Remove(slots.Index(w.local.key))
	}
	return nil
}
