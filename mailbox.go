package epore

import (
	"fmt"
	"io/fs"
	"iter"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/slots"
)

// Mailbox carries values from any goroutine to the loop. It keeps them in order and gives
// an event with its token. It needs no descriptor. A Poll may have any number of Mailboxes.
// All methods may be called from any goroutine; Receive and All are meant for the goroutine
// that polls.
//
// The event is readable. It comes with each Poll for as long as there is something to
// receive, as with a level-triggered socket. A loop may take one value for each event, or
// all of them, or stop halfway, and misses none. A loop that takes all values gets no event
// without a value. The values of one sender come in the order in which they were sent, each
// once.
//
// A Mailbox has two ends, like a connection. [Mailbox.CloseSend] closes the senders' end:
// what was sent is still received, with its events, and then the end is reported.
// [Mailbox.Close] closes the receiver's end: there are no further events. Closing the Poll
// closes the Mailbox for senders.
type Mailbox[T any] struct {
	poll  *Poll
	local localSource
	bound int // 0 if there is none

	// Each end has its own lock, so that many senders do not slow down the receiver.
	// Lock order: outMu before mu.

	mu     sync.Mutex
	in     []T // what was sent since the last fetch
	ended  bool
	closed bool

	outMu sync.Mutex
	out   []T // what was fetched; zeroed up to next
	next  int
	need  int // how much room was needed lately: see fetch

	waiting atomic.Int64 // the number of values in it; counted only if there is a bound
}

// NewMailbox returns a Mailbox of the Poll of r, whose events carry token. It takes any
// number of values. NewMailbox fails with ErrClosed when r or the Poll is closed. Closing r
// later does not affect the Mailbox.
func NewMailbox[T any](r *Registry, token Token) (*Mailbox[T], error) {
	return newMailbox[T](r, token, 0)
}

// NewBoundedMailbox is like NewMailbox, with room for bound values. While that many wait to
// be received, Send fails with ErrFull. NewBoundedMailbox fails with fs.ErrInvalid if bound
// is below 1.
func NewBoundedMailbox[T any](r *Registry, token Token, bound int) (*Mailbox[T], error) {
	if bound < 1 {
		return nil, &OpError{"register", "a Mailbox", fmt.Errorf("bound %d leaves no room: %w", bound, fs.ErrInvalid)}
	}
	return newMailbox[T](r, token, bound)
}

func newMailbox[T any](r *Registry, token Token, bound int) (*Mailbox[T], error) {
	err := r.usable()
	if err == nil {
		m := &Mailbox[T]{poll: r.poll, bound: bound}
		m.local.level = m
		if m.local.key, err = r.poll.newLocal(localMailbox, token); err == nil {
			return m, nil
		}
	}
	return nil, &OpError{"register", "a Mailbox", err}
}

// Send puts v into the mailbox and wakes the Poll if it waits. It never waits for the
// receiver. If many goroutines send before the loop receives, one of them wakes the Poll;
// the others make no system call.
//
// Send fails with ErrFull when as many values as the bound are waiting, and with ErrClosed
// when the Mailbox is closed at either end or its Poll is closed. After these errors v is
// not in the mailbox. If the system fails to wake the Poll, Send returns that error, and v
// is in the mailbox.
func (m *Mailbox[T]) Send(v T) error {
	if m.poll == nil {
		return &OpError{"send to", "a Mailbox", errZeroValue}
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

// errMailboxFull is created once, so that a sender that is too fast does not allocate as
// well.
var errMailboxFull = &OpError{"send to", "a Mailbox", ErrFull}

// wake gives the event unless one is already pending. Unlike in post, a load is enough to
// learn that, because the caller held mu before: a look into the mailbox that did not see
// what was stored under mu (see localSource.ready) has cleared pending before this load.
func (m *Mailbox[T]) wake() error {
	if m.local.pending.Load() {
		return nil
	}
	return m.poll.post(&m.local)
}

// Receive removes and returns the value that has waited longest. It does not wait: it
// returns false if there is no value now. Receive also works after the Mailbox or its Poll
// has been closed, until nothing is left.
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

// All removes and yields the values that are in the mailbox when the loop begins, one after
// the other. Values that are sent meanwhile remain for the next event, so that many values
// do not keep the loop from its other events. A loop that is left early leaves the remaining
// values in the mailbox.
func (m *Mailbox[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for n := m.Len(); n > 0; n-- {
			if v, ok := m.Receive(); !ok || !yield(v) {
				return
			}
		}
	}
}

// Len returns the number of values that wait to be received.
func (m *Mailbox[T]) Len() int {
	m.outMu.Lock()
	defer m.outMu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.in) + len(m.out) - m.next
}

// The room that a mailbox keeps.
const (
	littleRoom = 64      // values: always kept
	largeRoom  = 1 << 20 // bytes: more is never kept
)

// fetch gives the receiver what was sent, if anything was, and gives the senders the room
// that the receiver has emptied. If that room is more than four times what was needed
// lately, the burst that made it is over, and the room is dropped. It requires outMu.
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

// CloseSend declares that nothing more will be sent: Send fails with ErrClosed from now on.
// What is in the mailbox can still be received. From now on each Poll delivers an event that
// is readable and [Event.ReadClosed], like that of a connection whose peer has closed. The
// loop that sees it receives what is left and calls Close. Calling CloseSend again does
// nothing.
func (m *Mailbox[T]) CloseSend() error {
	if m.poll == nil {
		return &OpError{"close", "a Mailbox", errZeroValue}
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

// Close removes the Mailbox. Its events are no longer delivered, not even one that is in
// the current batch, and Send fails with ErrClosed. Receive and All still return what is
// left; nothing is added to it once Close has returned. Closing again does nothing.
func (m *Mailbox[T]) Close() error {
	if m.poll == nil {
		return &OpError{"close", "a Mailbox", errZeroValue}
	}
	t := &m.poll.slots
	t.Lock()
	defer t.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		t.Remove(slots.Index(m.local.key))
	}
	return nil
}

// readiness returns what the event reports now.
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
