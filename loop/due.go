package loop

import (
	"math"
	"time"
)

// never is later than every point in time.
const never time.Duration = math.MaxInt64

// began is the origin of the clock of all loops.
var began = time.Now()

func clock() time.Duration { return time.Since(began) }

// sum returns t + d, or never if that is later. One of them may be negative: in a bubble of
// testing/synctest, clock is.
func sum(t, d time.Duration) time.Duration {
	if t > 0 && d > never-t {
		return never
	}
	return t + d
}

// dueHeap holds the connections with a time limit, ordered by the time at which they must be
// checked: a heap with four children. It is lazy: activity on a connection, or a later
// deadline, does not move its entry. When the old time has come, the entry is moved to the
// new one. So activity costs nothing, and a loop needs one timer for all connections.
type dueHeap []dueEntry

type dueEntry struct {
	when time.Duration // not after c.earliest()
	c    *Conn
}

// put makes sure that c is checked at the given time.
func (h *dueHeap) put(c *Conn, when time.Duration) {
	if c.place < 0 {
		c.place = int32(len(*h))
		*h = append(double(*h), dueEntry{when, c})
	} else if (*h)[c.place].when > when {
		(*h)[c.place].when = when
	} else {
		return
	}
	h.up(int(c.place))
}

// double makes room for one more element, by doubling the capacity. Append grows large slices
// by a quarter, which leaves several times their size to the garbage collector.
func double[S ~[]E, E any](s S) S {
	if len(s) < cap(s) {
		return s
	}
	return append(make(S, 0, max(64, 2*len(s))), s...)
}

// remove removes c, if it is in the heap.
func (h *dueHeap) remove(c *Conn) {
	i := int(c.place)
	if i < 0 {
		return
	}
	last := len(*h) - 1
	h.set(i, (*h)[last])
	(*h)[last] = dueEntry{}
	*h = (*h)[:last]
	c.place = -1
	if i < last {
		h.down(i)
		h.up(i)
	}
}

// later moves the top to its new time.
func (h dueHeap) later(when time.Duration) {
	h[0].when = when
	h.down(0)
}

func (h dueHeap) set(i int, e dueEntry) {
	h[i] = e
	e.c.place = int32(i)
}

func (h dueHeap) up(i int) {
	e := h[i]
	for i > 0 {
		parent := (i - 1) / 4
		if h[parent].when <= e.when {
			break
		}
		h.set(i, h[parent])
		i = parent
	}
	h.set(i, e)
}

func (h dueHeap) down(i int) {
	e := h[i]
	for {
		least, when := i, e.when
		for child := 4*i + 1; child <= 4*i+4 && child < len(h); child++ {
			if h[child].when < when {
				least, when = child, h[child].when
			}
		}
		if least == i {
			break
		}
		h.set(i, h[least])
		i = least
	}
	h.set(i, e)
}

// earliest returns when c ends if nothing happens until then: at its deadline, or when it has
// been idle for too long.
func (c *Conn) earliest() time.Duration {
	when := c.limit
	if c.state == open && c.loop.cfg.Idle > 0 {
		when = min(when, sum(c.last, c.loop.cfg.Idle))
	}
	return when
}

// schedule makes sure that c is checked in time.
func (l *Loop) schedule(c *Conn) {
	if when := c.earliest(); when < never {
		l.due.put(c, when)
		l.arm()
	}
}

// arm sets the timer of the loop to the first entry.
func (l *Loop) arm() {
	if len(l.due) > 0 && l.due[0].when < l.armed {
		l.armed = l.due[0].when
		l.must(l.dueTimer.Reset(sum(l.armed, -clock())))
	}
}

// expire checks the connections whose time has come.
func (l *Loop) expire() {
	l.armed = never
	for len(l.due) > 0 && l.due[0].when <= l.now {
		c := l.due[0].c
		if c.state == open && c.flow == paused {
			c.last = l.now // a paused connection is not idle
		}
		switch when := c.earliest(); {
		case when == never:
			l.due.remove(c)
		case when > l.due[0].when: // even if it has passed, too: earlier ones come first
			l.due.later(when)
		default:
			l.due.remove(c)
			l.overdue(c)
		}
	}
	l.arm()
}

// overdue ends a connection whose time limit has passed.
func (l *Loop) overdue(c *Conn) {
	switch c.state {
	case connecting:
		c.die(errConnectLimit)
	case shaking:
		c.die(errHandshakeLimit)
	case open:
		if c.limit <= l.now {
			c.die(errDeadline)
		} else {
			c.die(errIdle)
		}
	case closing:
		if c.Buffered() == 0 { // all data was sent, but the peer keeps its half open
			c.die(c.err)
			break
		}
		_ = c.sock.SetLinger(0)
		if c.err == nil {
			c.err = errGrace
		}
		c.die(c.err)
	}
}
