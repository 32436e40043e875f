package epore

import (
	"sync"
	"sync/atomic"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/slots"
)

// localSource is a source that the kernel does not know: what is behind a Waker or a
// Mailbox. It has a slot like every registration, and gets its event when it is posted.
type localSource struct {
	key     backend.Key
	level   levelSource  // nil: one event for each time it is posted
	pending atomic.Bool  // in the queue; set and cleared under the queue's lock
	next    *localSource // under localQueue.mu
}

// levelSource makes a localSource level-triggered: once posted, it has an event with
// every Poll for as long as there is something to report.
type levelSource interface {
	// readiness returns what there is to report, or zero. It is called with the
	// queue locked.
	readiness() Readiness
}

// localQueue holds the local sources that have an event for the next Poll, in the order
// in which they were posted. It allocates nothing.
type localQueue struct {
	mu         sync.Mutex
	head, tail *localSource
	filled     atomic.Bool // whether there is a head
}

// empty reports that no source in the queue has an event. Sources that no longer have
// one, because they were drained or closed after they were posted, leave the queue.
func (q *localQueue) empty(t *slots.Table) bool {
	if !q.filled.Load() {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.head != nil {
		if s := q.head; s.level == nil {
			// It stays pending throughout, because Waker.Pending looks without the lock.
			if _, ok := t.Interest(s.key); ok {
				return false
			}
			s.pending.Store(false)
		} else if s.ready(t) != 0 {
			s.pending.Store(true)
			return false
		}
		q.remove()
	}
	return true
}

// push appends s unless it is in the queue already.
func (q *localQueue) push(s *localSource) (pushed bool) {
	q.mu.Lock()
	if pushed = !s.pending.Load(); pushed {
		q.append(s)
	}
	q.mu.Unlock()
	return pushed
}

// append puts s at the end. It and remove require the lock.
func (q *localQueue) append(s *localSource) {
	if q.tail == nil {
		q.head = s
		q.filled.Store(true)
	} else {
		q.tail.next = s
	}
	q.tail = s
	s.pending.Store(true) // last: a goroutine that sees it may rely on the event
}

// remove takes out the first source.
func (q *localQueue) remove() {
	s := q.head
	if q.head, s.next = s.next, nil; q.head == nil {
		q.tail = nil
		q.filled.Store(false)
	}
}

// take moves events to dst, as many as fit, and returns their number. From then on the
// source can be posted again: the goroutine that handles this event sees everything that
// the sender did before it posted. A level-triggered source goes to the end of the queue,
// and the next take asks it again.
func (q *localQueue) take(dst []backend.Event, t *slots.Table) int {
	if !q.filled.Load() {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for s, last := (*localSource)(nil), q.tail; s != last && n < len(dst); {
		s = q.head
		ready := s.ready(t)
		q.remove()
		if ready == 0 {
			continue
		}
		if s.level != nil {
			q.append(s)
		}
		dst[n] = backend.Event{Key: s.key, Ready: ready}
		n++
	}
	return n
}

// ready makes s not pending and returns what it has to report, which is nothing if it is
// closed. It requires the queue's lock. The order matters: whoever posts after ready has
// looked finds s not pending.
func (s *localSource) ready(t *slots.Table) Readiness {
	s.pending.Swap(false)
	switch _, ok := t.Interest(s.key); {
	case !ok:
		return 0
	case s.level != nil:
		return s.level.readiness()
	}
	return backend.ReadyReadable
}

// newLocal makes a registration that has no handle.
func (p *Poll) newLocal(kind localKind, token Token) (backend.Key, error) {
	p.slots.Lock()
	defer p.slots.Unlock()
	if p.closed.Load() {
		return 0, ErrClosed
	}
	key := p.slots.Insert(slots.NoHandle, uint64(token), Readable)
	p.setLocalKind(slots.Index(key), kind)
	return key, nil
}

// post gives s its event, unless one is already pending. The pending event then covers
// what the caller did before this call, too.
//
// A plain load cannot tell that an event is pending. It could be ordered before what
// the caller stored, and the receiver, which takes the event at that moment, would not
// see it. So post confirms it by a compare-and-swap that changes nothing, and ready uses a
// swap. That no event is pending is confirmed by push, under the lock.
func (p *Poll) post(s *localSource) error {
	if s.pending.Load() && s.pending.CompareAndSwap(true, true) || !p.local.push(s) {
		return nil
	}
	return p.interrupt()
}
