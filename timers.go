package epore

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/epore/epore/backend"
)

// timers are the Timers of a Poll: a heap of those that are set, by deadline.
//
// The heap is lazy, because most timers are timeouts, which are set again and
// stopped, and hardly ever expire. A timer that is stopped, or set to a later time,
// leaves its entry as it is; when that gets to the top, it is dropped, or goes to its
// place (settle). Only to become earlier does a timer need another entry; the old one
// then belongs to nobody. So an entry is never later than its timer, and the first one,
// settled, is the first to expire. And timers need not know where in the heap they are,
// which would have to be written into each that moves.
type timers struct {
	mu   sync.Mutex
	heap []timerEntry
	// useless is how many entries are of timers that are not set, or nobody's; or a
	// few less, where two of one timer are equal.
	useless int
	// need is how many entries there were lately; large says that there is room for
	// more than a few.
	need  int
	large atomic.Bool
	// next is the time of the first entry, or never: no timer expires before.
	next atomic.Int64
}

type timerEntry struct {
	when  time.Duration
	timer *Timer
}

// set makes t expire at when, and then after every period, if that is not zero.
func (q *timers) set(t *Timer, when, period time.Duration) error {
	q.mu.Lock()
	if t.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	if t.out {
		t.renew()
	}
	if t.when == unset && t.queued != unset {
		q.useless--
	}
	t.when, t.period, t.ticks = when, period, 0
	sooner := false
	if t.queued == unset || when < t.queued {
		if t.queued != unset {
			q.useless++
		}
		q.push(when, t)
		if sooner = int64(when) < q.next.Load(); sooner {
			q.next.Store(int64(when))
		}
	}
	q.mu.Unlock()
	if sooner {
		return t.poll.shorten(when)
	}
	return nil
}

// stop makes t not expire, and says whether there would have been an event.
func (q *timers) stop(t *Timer) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	pending := t.when != unset
	if pending {
		t.when = unset
		q.useless++
	}
	if t.out && !t.renew() {
		pending = true
	}
	return pending
}

// close stops t for good, the first time.
func (q *timers) close(t *Timer) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.closed {
		return false
	}
	t.closed, t.out = true, false
	if t.when != unset {
		t.when = unset
		q.useless++
	}
	return true
}

// renew makes the events of t that have left the heap stale, and says whether the
// loop was given one.
func (t *Timer) renew() (given bool) {
	t.key, given = t.poll.table.renew(t.key)
	t.out = false
	return given
}

// earliest is when the first timer expires, or never. The waiter asks, before it
// sleeps, and so is the one who tidies up.
func (q *timers) earliest() time.Duration {
	if q.none() && !q.large.Load() {
		return never
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.need = max(len(q.heap)-q.useless, q.need-q.need/8)
	if q.useless > len(q.heap)/2 || q.roomy() {
		q.sweep()
	}
	first := q.settle()
	q.next.Store(int64(first))
	return first
}

// none reports that no timer is set.
func (q *timers) none() bool { return q.next.Load() == int64(never) }

// take moves events of timers that have expired by now to dst, as many as fit, in
// the order of their deadlines.
func (q *timers) take(dst []backend.Event, now time.Duration) int {
	if q.next.Load() > int64(now) {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	first := q.settle()
	for ; first <= now && n < len(dst); n++ {
		dst[n] = backend.Event{Key: q.heap[top].timer.key, Ready: backend.ReadyReadable}
		q.expire(now)
		first = q.settle()
	}
	q.next.Store(int64(first))
	return n
}

// expire is about the first timer, which is settled and due. Under mu, as all that
// follow.
func (q *timers) expire(now time.Duration) {
	t := q.heap[top].timer
	t.out = true
	t.ticks++
	if t.period == 0 {
		t.when, t.queued = unset, unset
		q.pop()
		return
	}
	late := now - t.when
	t.ticks += uint64(late / t.period)
	t.when = plus(now-late%t.period, t.period)
}

// settle makes the first entry one whose timer is set to just that time, which it
// returns; never, if none is left.
func (q *timers) settle() time.Duration {
	for len(q.heap) > top {
		e := q.heap[top]
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
			q.down(top, timerEntry{t.when, t})
		default:
			return e.when
		}
	}
	return never
}

// few entries need no room worth giving back.
const few = 1024

// roomy reports that a burst of timers is over.
func (q *timers) roomy() bool { return cap(q.heap) > max(few, 8*q.need) }

// sweep drops all useless entries, and with them room that is much too large.
func (q *timers) sweep() {
	q.need = max(q.need, len(q.heap)-q.useless)
	kept := q.heap[:top]
	if q.roomy() {
		kept = make([]timerEntry, top, max(few, 2*q.need))
		q.large.Store(cap(kept) > few)
	}
	for _, e := range q.heap[top:] {
		t := e.timer
		switch {
		case e.when != t.queued:
		case t.when == unset:
			t.queued = unset
		default:
			t.queued = t.when
			kept = append(kept, timerEntry{t.when, t})
		}
	}
	clear(q.heap[len(kept):])
	q.heap, q.useless = kept, 0
	for i := min(parent(len(kept)-1), len(kept)-1); i >= top; i-- {
		q.down(i, kept[i])
	}
}

// push adds an entry for t. If there is no room, it is made of what is useless.
func (q *timers) push(when time.Duration, t *Timer) {
	t.queued = when // first: its old entry is nobody's now
	if q.heap == nil {
		q.heap = make([]timerEntry, top, 16)
	}
	full := len(q.heap) == cap(q.heap)
	if full && q.useless > len(q.heap)/2 {
		q.sweep()
	}
	if q.heap = append(q.heap, timerEntry{}); full {
		q.large.Store(cap(q.heap) > few)
	}
	q.up(len(q.heap)-1, timerEntry{when, t})
}

// pop removes the first entry.
func (q *timers) pop() {
	last := len(q.heap) - 1
	e := q.heap[last]
	q.heap[last] = timerEntry{}
	q.heap = q.heap[:last]
	if last > top {
		q.down(top, e)
	}
}

// The heap has four children to a node, all in one cache line: they begin at
// multiples of four, and the first three places are empty.
const (
	top  = 3
	wide = 4
)

func parent(i int) int { return (i-top-1)/wide + top }
func child(i int) int  { return (i-top)*wide + top + 1 }

// up puts e at i, or above.
func (q *timers) up(i int, e timerEntry) {
	h := q.heap
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
func (q *timers) down(i int, e timerEntry) {
	h := q.heap
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
