package main

import "time"

// idleList has the connections in the order of their last activity, so that those whose
// time is over stand first. Moving one to the end is a matter of a few pointers.
type idleList struct {
	after       time.Duration // 0: no connection is ever idle
	first, last *conn
	time        time.Duration // of the last call of now
}

var begin = time.Now()

// now reads the clock, once for a batch of events.
func (l *idleList) now() {
	if l.after > 0 {
		l.time = time.Since(begin)
	}
}

// add appends a connection, and says whether it is the only one.
func (l *idleList) add(c *conn) (only bool) {
	if l.after == 0 {
		return false
	}
	c.last = l.time
	c.before, c.after = l.last, nil
	if l.last == nil {
		l.first = c
	} else {
		l.last.after = c
	}
	l.last = c
	return l.first == c
}

// remove takes a connection out, if it is in.
func (l *idleList) remove(c *conn) {
	if c.before == nil && l.first != c {
		return
	}
	if c.before == nil {
		l.first = c.after
	} else {
		c.before.after = c.after
	}
	if c.after == nil {
		l.last = c.before
	} else {
		c.after.before = c.before
	}
	c.before, c.after = nil, nil
}

// touch notes that something was received or sent.
func (l *idleList) touch(c *conn) {
	if l.after == 0 {
		return
	}
	if l.last != c {
		l.remove(c)
		l.add(c)
	}
	c.last = l.time
}

// expired returns a connection whose time is over, or nil.
func (l *idleList) expired() *conn {
	if c := l.first; c != nil && l.time-c.last >= l.after {
		return c
	}
	return nil
}

// next returns how long it is until the first one's time is over.
func (l *idleList) next() (time.Duration, bool) {
	if l.first == nil {
		return 0, false
	}
	return l.first.last + l.after - l.time, true
}
