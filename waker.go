package epore

import "sync/atomic"

// Waker makes a Poll return from another goroutine: an event with the Waker's
// token, without a descriptor. A Poll may have any number of them. All methods
// may be called from any goroutine.
type Waker struct {
	poll   *Poll
	closed atomic.Bool
	poster poster
}

// NewWaker returns a Waker of the Poll of r, whose events carry token. It fails
// with ErrClosed when r or the Poll is closed. Closing r later does not concern
// the Waker.
func NewWaker(r *Registry, token Token) (*Waker, error) {
	err := r.usable()
	if err == nil {
		var w *Waker
		if w, err = newWaker(r.poll, token); err == nil {
			return w, nil
		}
	}
	return nil, &OpError{"register", "a Waker", err}
}

func newWaker(p *Poll, token Token) (*Waker, error) {
	key, err := p.newPoster(token)
	if err != nil {
		return nil, err
	}
	return &Waker{poll: p, poster: poster{key: key}}, nil
}

// Wake gives one event, readable and with the Waker's token, to the Poll in
// progress or else to the next one. Wakes before that event is delivered
// coalesce into it. A Wake is never lost: whatever the caller did before is
// visible to whoever handles the event.
//
// It returns ErrClosed when the Waker or its Poll is closed. It does not block,
// and when it coalesces, or no Poll is waiting, it makes no system call.
func (w *Waker) Wake() error {
	var err error
	switch {
	case w.poll == nil:
		err = errMadeByHand
	case w.closed.Load() || w.poll.closed.Load():
		err = ErrClosed
	default:
		err = w.poll.post(&w.poster)
	}
	if err != nil {
		return &OpError{"wake", "a Waker", err}
	}
	return nil
}

// Close removes the Waker: its events are no longer delivered, not even one that
// is in the batch in hand. Closing again does nothing.
func (w *Waker) Close() error {
	if w.poll == nil {
		return &OpError{"close", "a Waker", errMadeByHand}
	}
	t := &w.poll.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if !w.closed.Swap(true) {
		t.remove(keyIndex(w.poster.key))
	}
	return nil
}
