package epore

import (
	"fmt"
	"io/fs"
	"iter"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/epore/epore/backend"
)

// Mailbox brings values from any goroutine to the loop: what is sent is kept in order,
// and gives an event with the Mailbox's token, without a descriptor. A Poll may have any
// number of them. All methods may be called from any goroutine; Receive and All are
// meant for the one that polls.
//
// The event, readable, comes with each Poll for as long as there is something to
// receive, as with a level-triggered socket: a loop may take one value for each event,
// or all of them, or leave half-way, and misses none. Who takes all sees no event for
// nothing. Values of one sender come in the order they were sent, each once.
//
// A Mailbox has two ends, like a connection. The senders' is closed by
// [Mailbox.CloseSend]: what was sent is still received, with its events, and then the end
// is told. The receiver's by [Mailbox.Close]: no more events. Closing the Poll closes it
// for senders.
type Mailbox[T any] struct {
	poll   *Poll
	poster poster
	bound  int // 0: none

	// The ends have a lock each, so that a flood of senders does not slow down who
	// receives. Who needs both takes outMu first.

	mu     sync.Mutex
	in     []T // what was sent since the last fetch
	ended  bool
	closed bool

	outMu sync.Mutex
	out   []T // what was fetched; up to next it is zeroed
	next  int
	need  int // how much room was needed lately: see fetch

	waiting atomic.Int64 // how many values are in it; only if there is a bound
}

// NewMailbox returns a Mailbox of the Poll of r, whose events carry token, for any
// number of values: it fails with ErrClosed when r or the Poll is closed. Closing r
// later does not concern the Mailbox.
func NewMailbox[T any](r *Registry, token Token) (*Mailbox[T], error) {
	return newMailbox[T](r, token, 0)
}

// NewBoundedMailbox is NewMailbox with room for bound values: while as many wait to be
// received, Send fails with ErrFull. A bound below 1 fails with fs.ErrInvalid.
func NewBoundedMailbox[T any](r *Registry, token Token, bound int) (*Mailbox[T], error) {
	if bound < 1 {
		return nil, &OpError{"register", "a Mailbox", fmt.Errorf("a bound of %d leaves no room: %w", bound, fs.ErrInvalid)}
	}
	return newMailbox[T](r, token, bound)
}

func newMailbox[T any](r *Registry, token Token, bound int) (*Mailbox[T], error) {
	err := r.usable()
	if err == nil {
		m := &Mailbox[T]{poll: r.poll, bound: bound}
		m.poster.level = m
		if m.poster.key, err = r.poll.newPoster(token); err == nil {
			return m, nil
		}
	}
	return nil, &OpError{"register", "a Mailbox", err}
}

// Send puts v into the mailbox, and wakes the Poll if it waits. It never waits for the
// receiver. If many send before the loop receives, one of them wakes; the others make
// no system call.
//
// It fails with ErrFull when as many values wait as the bound allows, and with ErrClosed
// when the Mailbox is closed, at either end, or its Poll. Then v is not in the mailbox.
// Should the system fail to wake the Poll, the error is that; v is in the mailbox.
func (m *Mailbox[T]) Send(v T) error {
	if m.poll == nil {
		return &OpError{"send to", "a Mailbox", errMadeByHand}
	}
	m.mu.Lock()
	switch {
	case m.closed || m.ended || m.poll.closed.Load():
		m.mu.Unlock()
		return &OpError{"send to", "a Mailbox", ErrClosed}
	case m.bound > 0:
		if m.waiting.Load() >= int64(m.bound) {
			m.mu.Unlock()
			return errMailboxFull
		}
		m.waiting.Add(1)
	}
	m.in = append(m.in, v)
	m.mu.Unlock()
	if err := m.wake(); err != nil {
		return &OpError{"send to", "a Mailbox", err}
	}
	return nil
}

// errMailboxFull is made once: who sends too much should not have to allocate, too.
var errMailboxFull = &OpError{"send to", "a Mailbox", ErrFull}

// wake gives the event, unless it is due already. A load is enough to learn that, as it
// is not in post, because mu was held before: a look into the mailbox that did not see
// what was stored then (see poster.ready) has cleared pending before this load.
func (m *Mailbox[T]) wake() error {
	if m.poster.pending.Load() {
		return nil
	}
	return m.poll.post(&m.poster)
}

// Receive takes out the value that has waited longest. It does not wait: false says that
// there is none now. It does so too when the Mailbox is closed or its Poll, until
// nothing is left.
func (m *Mailbox[T]) Receive() (v T, ok bool) {
	m.outMu.Lock()
	defer m.outMu.Unlock()
	if m.next == len(m.out) && !m.fetch() {
		return v, false
	}
	var zero T
	v, m.out[m.next] = m.out[m.next], zero
	m.next++
	if m.bound > 0 {
		m.waiting.Add(-1)
	}
	return v, true
}

// All takes out the values one after the other, those that are there when the loop
// begins: what is sent meanwhile is for the next event, so that a flood of values does
// not keep the loop from its other events. A loop that is left early leaves the others in
// the mailbox.
func (m *Mailbox[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for n := m.Len(); n > 0; n-- {
			if v, ok := m.Receive(); !ok || !yield(v) {
				return
			}
		}
	}
}

// Len returns how many values wait to be received.
func (m *Mailbox[T]) Len() int {
	m.outMu.Lock()
	defer m.outMu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.in) + len(m.out) - m.next
}

// What room a mailbox keeps.
const (
	littleRoom = 64      // values: in any case
	largeRoom  = 1 << 20 // bytes: never more
)

// fetch hands the receiver what was sent, if anything was, and the senders the room that
// the receiver has emptied; unless that is more than four times of what was needed
// lately: then the burst that made it is over. Under outMu.
func (m *Mailbox[T]) fetch() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.in) == 0 {
		return false
	}
	var v T
	room := m.out[:0]
	m.need = max(len(m.in), m.need-m.need/8)
	if n := cap(room); n > littleRoom && (n/4 > m.need || uintptr(n)*unsafe.Sizeof(v) > largeRoom) {
		room = nil
	}
	m.in, m.out, m.next = room, m.in, 0
	return true
}

// CloseSend says that nothing more will be sent: Send fails with ErrClosed from now on.
// What is in the mailbox is still received. From now on there is an event with each
// Poll, readable and [Event.ReadClosed], as of a connection whose peer has closed: who
// sees it receives what is left, and calls Close. Closing again does nothing.
func (m *Mailbox[T]) CloseSend() error {
	if m.poll == nil {
		return &OpError{"close", "a Mailbox", errMadeByHand}
	}
	m.mu.Lock()
	first := !m.ended && !m.closed
	m.ended = true
	m.mu.Unlock()
	if !first || m.poll.closed.Load() {
		return nil
	}
	if err := m.wake(); err != nil {
		return &OpError{"close", "a Mailbox", err}
	}
	return nil
}

// Close removes the Mailbox: its events are no longer delivered, not even one that is in
// the batch in hand, and Send fails with ErrClosed. What is left, Receive and All still
// give; when Close has returned, nothing is added to it. Closing again does nothing.
func (m *Mailbox[T]) Close() error {
	if m.poll == nil {
		return &OpError{"close", "a Mailbox", errMadeByHand}
	}
	t := &m.poll.table
	t.mu.Lock()
	defer t.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		t.remove(keyIndex(m.poster.key))
	}
	return nil
}

// readiness is what the event says now.
func (m *Mailbox[T]) readiness() Readiness {
	left := m.Len()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return 0
	case m.ended:
		return backend.ReadyReadable | backend.ReadyReadClosed
	case left > 0:
		return backend.ReadyReadable
	}
	return 0
}
