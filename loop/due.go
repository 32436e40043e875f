package loop

import (
	"math"
	"time"
)

// never is later than every point in time.
const never time.Duration = math.MaxInt64

// began is where the time of all loops begins.
var began = time.Now()

func clock() time.Duration { return time.Since(began) }

// dueHeap has the connections that have a time limit, the first one to look at on top: a
// heap with four children. It is lazy: a connection that is used, or whose deadline is
// moved to a later time, stays where it is, and is moved when its old time has come. So
// activity costs nothing, and no connection has a timer.
type dueHeap []dueEntry

type dueEntry struct {
	when time.Duration // not after c.earliest()
	c    *Conn
}

// put has c looked at when that time has come.
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

// double makes room for one more, and in the long run for as many as there are: growing by
// less, as append does, leaves several times the memory to the garbage collector.
func double[S ~[]E, E any](s S) S {
	if len(s) < cap(s) {
		return s
	}
	return append(make(S, 0, max(64, 2*len(s))), s...)
}

// remove takes c out, if it is in.
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

// earliest returns when c is to be looked at: when its deadline passes, or when it has been
// idle for too long, if nothing happens until then.
func (c *Conn) earliest() time.Duration {
	when := c.limit
	if c.state == open && c.loop.cfg.Idle > 0 {
		when = min(when, c.last+c.loop.cfg.Idle)
	}
	return when
}

// schedule sees to it that c is looked at in time.
func (l *Loop) schedule(c *Conn) {
	if when := c.earliest(); when < never {
		l.due.put(c, when)
		l.arm()
	}
}

// arm sets the timer of the loop to the first one.
func (l *Loop) arm() {
	if len(l.due) > 0 && l.due[0].when < l.armed {
		l.armed = l.due[0].when
		l.must(l.dueTimer.Reset(l.armed - clock()))
	}
}

// expire looks at the connections whose time has come.
func (l *Loop) expire() {
	l.armed = never
	for len(l.due) > 0 && l.due[0].when <= l.now {
		c := l.due[0].c
		if c.state == open && c.paused {
			c.last = l.now // it is not the peer that keeps it waiting
		}
		switch when := c.earliest(); {
		case when == never:
			l.due.remove(c)
		case when > l.now:
			l.due.later(when)
		default:
			l.due.remove(c)
			l.overdue(c)
		}
	}
	l.arm()
}

// overdue ends a connection whose time is over.
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
		if c.Buffered() == 0 { // all was sent; the peer keeps its half open
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
