package epore

import (
	"sync"
	"sync/atomic"

	"github.com/epore/epore/backend"
)

// poster is a source without a descriptor: what is behind a Waker or a Mailbox. It
// has a slot in the table, as every registration, and gets its event by being
// posted.
type poster struct {
	key     backend.Key
	level   leveled     // nil: one event for each time it is posted
	pending atomic.Bool // in the list; set and cleared under its mutex
	next    *poster     // under postedList.mu
}

// leveled is a source whose poster is level-triggered: once posted, it has an event
// with every Poll for as long as there is something to report.
type leveled interface {
	// readiness returns what there is to report, or zero. It is called with the
	// list locked.
	readiness() Readiness
}

// postedList is the queue of posters that have an event for the next Poll,
// first come first served. It needs no memory of its own.
type postedList struct {
	mu         sync.Mutex
	head, tail *poster
	length     atomic.Int32
}

// empty reports that there is no event in the list. Posters without one, drained or
// closed since they were posted, leave it.
func (l *postedList) empty(t *table) bool {
	if l.length.Load() == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.head != nil {
		if l.head.ready(t) != 0 {
			l.head.pending.Store(true)
			return false
		}
		l.remove()
	}
	return true
}

// push appends s, unless it is there already.
func (l *postedList) push(s *poster) (pushed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.pending.Load() {
		return false
	}
	l.append(s)
	return true
}

// append puts s behind the others. Under mu, as the next one.
func (l *postedList) append(s *poster) {
	if l.tail == nil {
		l.head = s
	} else {
		l.tail.next = s
	}
	l.tail = s
	l.length.Add(1)
	s.pending.Store(true) // last: who sees it may rely on the event
}

// remove takes out the first.
func (l *postedList) remove() {
	s := l.head
	if l.head, s.next = s.next, nil; l.head == nil {
		l.tail = nil
	}
	l.length.Add(-1)
}

// take moves events to dst, as many as fit. From then on a poster can be posted
// again: what its sender did before posting is seen by whoever gets this event.
// One that is level-triggered goes to the end of the list, to be asked again by the
// next take.
func (l *postedList) take(dst []backend.Event, t *table) int {
	if l.length.Load() == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for left := l.length.Load(); left > 0 && n < len(dst); left-- {
		s := l.head
		ready := s.ready(t)
		l.remove()
		if ready == 0 {
			continue
		}
		if s.level != nil {
			l.append(s)
		}
		dst[n] = backend.Event{Key: s.key, Ready: ready}
		n++
	}
	return n
}

// ready returns what s, which is pending no more, has to report: nothing if it is
// closed. Under the list's mu. It must be in this order: who posts after the
// look finds that nothing is pending.
func (s *poster) ready(t *table) Readiness {
	s.pending.Swap(false)
	switch _, ok := t.interest(s.key); {
	case !ok:
		return 0
	case s.level != nil:
		return s.level.readiness()
	}
	return backend.ReadyReadable
}

// newPoster makes a registration without a descriptor.
func (p *Poll) newPoster(token Token) (backend.Key, error) {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.closed.Load() {
		return 0, ErrClosed
	}
	return p.table.insert(noHandle, token, Readable), nil
}

// post gives s its event, unless it is due one already; which then sees what
// came before this call, too.
//
// For that, a load would not do to learn that the event is due: it could be
// ordered before what the caller stored, and then the receiver, taking the
// event at that moment, would not see that. So: a compare-and-swap that changes
// nothing, and a swap in take.
func (p *Poll) post(s *poster) error {
	if s.pending.CompareAndSwap(true, true) || !p.posted.push(s) {
		return nil
	}
	return p.interrupt()
}
