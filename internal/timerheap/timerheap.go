// Package timerheap implements the timers of one Poll: a heap of those that are set,
// ordered by deadline.
//
// Times are points on a clock of the caller's choice, as durations since its origin.
package timerheap

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/slots"
)

// Heap holds the timers that are set. All methods may be called concurrently.
//
// The heap is lazy, because most timers are timeouts, which are set again and stopped,
// and hardly ever expire. Stopping a timer, or setting it to a later time, leaves its
// entry as it is. When that entry reaches the top, it is dropped or moves to its place
// (see settle). Only setting a timer to an earlier time adds another entry; the old one
// then belongs to no timer. So an entry is never later than its timer, and the first
// entry, once settled, is the first to expire. And timers need not know their place in
// the heap, which would have to be written into each timer that moves.
type Heap struct {
	slots *slots.Table

	mu      sync.Mutex
	entries []entry
	// useless counts stale entries: those of timers that are not set, and those that
	// belong to no timer. It may undercount slightly, where two entries of one timer
	// are equal.
	useless int
	// set is the number of timers that are set.
	set int
	// need is how many entries were needed lately. large says that there is room for
	// more than a few.
	need  int
	large atomic.Bool
	// next is the time of the first entry, or Never. No timer expires before it.
	next atomic.Int64
}

type entry struct {
	when  time.Duration
	timer *Timer
}

// Timer is one timer of a Heap. The heap's lock guards its fields.
type Timer struct {
	key    backend.Key
	when   time.Duration // when it expires, or unset
	queued time.Duration // the time of its entry in the heap, not after when; or unset
	period time.Duration // of a periodic timer, or 0
	ticks  uint64
	fired  bool // an event under key has left the heap
	closed bool
}

const (
	// Never is the time of a deadline that does not come.
	Never time.Duration = math.MaxInt64

	// unset is no time. A timer may be set to any other one.
	unset time.Duration = math.MinInt64
)

// Plus adds d to a point in time. A sum beyond the clock's range is Never. A sum that is
// very far in the past is rounded up to a time from which it is still possible to tell
// how long ago it is.
func Plus(t, d time.Duration) time.Duration {
	if d > 0 && t > Never-d {
		return Never
	}
	if d < 0 && t < unset-d {
		return unset / 2
	}
	return max(t+d, unset/2)
}

// Init prepares the heap. The slots of its timers are in table.
func (q *Heap) Init(table *slots.Table) {
	q.slots = table
	q.next.Store(int64(Never))
}

// Add makes t a timer of the heap that is not set. Its events carry key, whose slot from
// now on records deliveries.
func (q *Heap) Add(t *Timer, key backend.Key) {
	q.slots.RecordDeliveries(key)
	*t = Timer{key: key, when: unset, queued: unset}
}

// Set makes t expire at when, and then again after every period if that is not zero. It
// reports whether when is now the earliest time of all, and false for ok if t is closed.
func (q *Heap) Set(t *Timer, when, period time.Duration) (earliest, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.closed {
		return false, false
	}
	if t.fired {
		q.renew(t)
	}
	if t.when == unset {
		q.set++
		if t.queued != unset {
			q.useless--
		}
	}
	t.when, t.period, t.ticks = when, period, 0
	if t.queued == unset || when < t.queued {
		if t.queued != unset {
			q.useless++
		}
		q.push(when, t)
		if earliest = int64(when) < q.next.Load(); earliest {
			q.next.Store(int64(when))
		}
	}
	return earliest, true
}

// Stop makes t not expire. It reports whether that prevented an event.
func (q *Heap) Stop(t *Timer) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	pending := t.when != unset
	if pending {
		t.when = unset
		q.set--
		q.useless++
	}
	if t.fired && !q.renew(t) {
		pending = true
	}
	return pending
}

// Close stops t for good. It returns the key whose slot the caller must remove, or false
// if t was closed before.
func (q *Heap) Close(t *Timer) (key backend.Key, first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.closed {
		return 0, false
	}
	t.closed, t.fired = true, false
	if t.when != unset {
		t.when = unset
		q.set--
		q.useless++
	}
	return t.key, true
}

// TakeTicks returns how many times t has expired since it was set or since the last call
// of TakeTicks.
func (q *Heap) TakeTicks(t *Timer) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := t.ticks
	t.ticks = 0
	return n
}

// renew makes the events of t that have left the heap stale, and reports whether one of
// them was delivered.
func (q *Heap) renew(t *Timer) (delivered bool) {
	t.key, delivered = q.slots.Renew(t.key)
	t.fired = false
	return delivered
}

// Earliest returns when the first timer expires, or Never. The goroutine that waits
// calls it before it sleeps, so this is where the heap is cleaned up.
func (q *Heap) Earliest() time.Duration {
	if q.None() && !q.large.Load() {
		return Never
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.need = max(len(q.entries)-q.useless, q.need-q.need/8)
	if q.useless > len(q.entries)/2 || q.roomy() {
		q.sweep()
	}
	first := q.settle()
	q.next.Store(int64(first))
	return first
}

// None reports that no timer is set. It takes no lock.
func (q *Heap) None() bool { return q.next.Load() == int64(Never) }

// Before reports whether a timer may expire before t. It takes no lock.
func (q *Heap) Before(t time.Duration) bool { return q.next.Load() < int64(t) }

// Len returns the number of timers that are set.
func (q *Heap) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.set
}

// Take moves events of timers that have expired by now to dst, as many as fit, in the
// order of their deadlines. It returns their number.
func (q *Heap) Take(dst []backend.Event, now time.Duration) int {
	if q.next.Load() > int64(now) {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	first := q.settle()
	for ; first <= now && n < len(dst); n++ {
		dst[n] = backend.Event{Key: q.entries[top].timer.key, Ready: backend.ReadyReadable}
		q.expire(now)
		first = q.settle()
	}
	q.next.Store(int64(first))
	return n
}

// Room returns the number of entries that the heap has room for.
func (q *Heap) Room() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return cap(q.entries)
}

// expire handles the first timer, which is settled and due. It and all that follow
// require the lock.
func (q *Heap) expire(now time.Duration) {
	t := q.entries[top].timer
	t.fired = true
	t.ticks++
	if t.period == 0 {
		t.when, t.queued = unset, unset
		q.set--
		q.pop()
		return
	}
	late := now - t.when
	t.ticks += uint64(late / t.period)
	t.when = Plus(now-late%t.period, t.period)
}

// settle makes the first entry one whose timer is set to exactly that time, and returns
// the time; it returns Never if no entry is left.
func (q *Heap) settle() time.Duration {
	for len(q.entries) > top {
		e := q.entries[top]
		switch t := e.timer; {
		case e.when != t.queued:
			q.useless--
			q.pop()
		case t.when == unset:
			q.useless--
			t.queued = unset
			q.pop()
		case e.when != t.when:
			t.queued = t.when
			q.down(top, entry{t.when, t})
		default:
			return e.when
		}
	}
	return Never
}

// few is a number of entries whose room is not worth giving back.
const few = 1024

// roomy reports that the heap has much more room than it needs: a burst of timers is
// over.
func (q *Heap) roomy() bool { return cap(q.entries) > max(few, 8*q.need) }

// sweep drops all stale entries, and room that is much too large.
func (q *Heap) sweep() {
	q.need = max(q.need, len(q.entries)-q.useless)
	kept := q.entries[:top]
	if q.roomy() {
		kept = make([]entry, top, max(few, 2*q.need))
		q.large.Store(cap(kept) > few)
	}
	for _, e := range q.entries[top:] {
		t := e.timer
		switch {
		case e.when != t.queued:
		case t.when == unset:
			t.queued = unset
		default:
			t.queued = t.when
			kept = append(kept, entry{t.when, t})
		}
	}
	clear(q.entries[len(kept):])
	q.entries, q.useless = kept, 0
	for i := min(parent(len(kept)-1), len(kept)-1); i >= top; i-- {
		q.down(i, kept[i])
	}
}

// push adds an entry for t. If there is no room, it first drops stale entries, provided
// that there are many.
func (q *Heap) push(when time.Duration, t *Timer) {
	t.queued = when // first: the old entry belongs to no timer now
	if q.entries == nil {
		q.entries = make([]entry, top, 16)
	}
	full := len(q.entries) == cap(q.entries)
	if full && q.useless > len(q.entries)/2 {
		q.sweep()
	}
	if q.entries = append(q.entries, entry{}); full {
		q.large.Store(cap(q.entries) > few)
	}
	q.up(len(q.entries)-1, entry{when, t})
}

// pop removes the first entry.
func (q *Heap) pop() {
	last := len(q.entries) - 1
	e := q.entries[last]
	q.entries[last] = entry{}
	q.entries = q.entries[:last]
	if last > top {
		q.down(top, e)
	}
}

// A node has four children, which share a cache line: they begin at a multiple of four,
// and the first three places of the array stay empty.
const (
	top  = 3
	wide = 4
)

func parent(i int) int { return (i-top-1)/wide + top }
func child(i int) int  { return (i-top)*wide + top + 1 }

// up puts e at i, or above.
func (q *Heap) up(i int, e entry) {
	h := q.entries
	for i > top {
		p := parent(i)
		if h[p].when <= e.when {
			break
		}
		h[i] = h[p]
		i = p
	}
	h[i] = e
}

// down puts e at i, or below.
func (q *Heap) down(i int, e entry) {
	h := q.entries
	for {
		c := child(i)
		if c >= len(h) {
			break
		}
		least := h[c].when
		for k, n := c+1, min(c+wide, len(h)); k < n; k++ {
			if w := h[k].when; w < least {
				least, c = w, k
			}
		}
		if e.when <= least {
			break
		}
		h[i] = h[c]
		i = c
	}
	h[i] = e
}
