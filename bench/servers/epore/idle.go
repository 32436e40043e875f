package main

import "time"

// idleList is a linked list of the connections in the order of their last activity. The
// expired ones come first, and moving one to the end changes only a few pointers.
type idleList struct {
	after       time.Duration // 0: connections never expire
	first, last *conn
	time        time.Duration // of the last call of now
}

var begin = time.Now()

// now reads the clock, once for each batch of events.
func (l *idleList) now() {
	if l.after > 0 {
		l.time = time.Since(begin)
	}
}

// add appends a connection, and reports whether it is the only one.
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

// remove removes a connection, if the list contains it.
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

// touch records that data was received or sent.
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

// expired returns a connection that has expired, or nil.
func (l *idleList) expired() *conn {
	if c := l.first; c != nil && l.time-c.last >= l.after {
		return c
	}
	return nil
}

// next returns the time until the first connection expires.
func (l *idleList) next() (time.Duration, bool) {
	if l.first == nil {
		return 0, false
	}
	return l.first.last + l.after - l.time, true
}
