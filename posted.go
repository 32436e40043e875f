package epore

import (
	"sync"
	"sync/atomic"

	"github.com/epore/epore/backend"
)

// poster is a source without a descriptor: what is behind a Waker. It has a slot
// in the table, as every registration, and gets its event by being posted.
type poster struct {
	key     backend.Key
	pending atomic.Bool // in the list; set and cleared under its mutex
	next    *poster     // under postedList.mu
}

// postedList is the queue of posters that have an event for the next Poll,
// first come first served. It needs no memory of its own.
type postedList struct {
	mu         sync.Mutex
	head, tail *poster
	length     atomic.Int32
}

func (l *postedList) empty() bool { return l.length.Load() == 0 }

// push appends s, unless it is there already.
func (l *postedList) push(s *poster) (pushed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.pending.Load() {
		return false
	}
	if l.tail == nil {
		l.head = s
	} else {
		l.tail.next = s
	}
	l.tail = s
	l.length.Add(1)
	s.pending.Store(true) // last: who sees it may rely on the event
	return true
}

// take moves events to dst, as many as fit. From then on a poster can be posted
// again: what its sender did before posting is seen by whoever gets this event.
func (l *postedList) take(dst []backend.Event) int {
	if l.empty() {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for ; n < len(dst) && l.head != nil; n++ {
		s := l.head
		l.head, s.next = s.next, nil
		l.length.Add(-1)
		s.pending.Swap(false)
		dst[n] = backend.Event{Key: s.key, Ready: backend.ReadyReadable}
	}
	if l.head == nil {
		l.tail = nil
	}
	return n
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
