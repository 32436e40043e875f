package main

import (
	"io"
	"sync"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// conn is a connection. While its client takes what it is sent, that is all there is:
// reading is into the loop's buffer, and writing from it. When the client does not, the
// rest is kept in pending, and nothing is read until that is gone; so no client has
// more than readSize bytes here, and one that does not read is soon told by its own TCP
// to stop writing.
type conn struct {
	*socket.Conn
	pending *pending

	// For idleList.
	before, after *conn
	last          time.Duration

	token     uint32
	finishing bool // the sending half is closed
}

// pending is what could not be sent yet.
type pending struct {
	rest []byte
	buf  [readSize]byte
}

var pendings = sync.Pool{New: func() any { return new(pending) }}

// keep makes b pending.
func (c *conn) keep(b []byte) {
	c.pending = pendings.Get().(*pending)
	c.pending.rest = c.pending.buf[:copy(c.pending.buf[:], b)]
}

// release says that nothing is pending.
func (c *conn) release() {
	if c.pending != nil {
		pendings.Put(c.pending)
		c.pending = nil
	}
}

// serve does what an event is about. It reads once: level-triggered, the event comes
// again if there is more, and meanwhile the others have their turn.
func (l *loop) serve(c *conn) {
	if c.pending != nil {
		l.flush(c)
		return
	}
	n, err := c.Read(l.buf)
	switch {
	case c.finishing && err == nil, err == socket.ErrWouldBlock:
		return
	case err == io.EOF: // the client has closed, or at least its half: all is sent
		if c.finishing {
			l.end(c, &l.stats.stopped)
		} else {
			l.end(c, &l.stats.ended)
		}
		return
	case err != nil:
		l.end(c, &l.stats.reset)
		return
	}
	l.stats.received += int64(n)
	l.idle.touch(c)
	sent, err := c.Write(l.buf[:n])
	l.stats.sent += int64(sent)
	switch {
	case err == socket.ErrWouldBlock:
		c.keep(l.buf[sent:n])
		l.watch(c, epore.Writable) // and not for reading
	case err != nil:
		l.end(c, &l.stats.reset)
	}
}

// flush sends what is pending.
func (l *loop) flush(c *conn) {
	n, err := c.Write(c.pending.rest)
	l.stats.sent += int64(n)
	c.pending.rest = c.pending.rest[n:]
	if n > 0 {
		l.idle.touch(c)
	}
	switch {
	case err == socket.ErrWouldBlock:
	case err != nil:
		l.end(c, &l.stats.reset)
	default:
		c.release()
		l.watch(c, epore.Readable)
		if l.stopping {
			l.finish(c)
		}
	}
}

// finish closes the sending half, and leaves it to the client to close the other: what it
// still sends is read and thrown away, since closing beside unread data would be a reset,
// with which the client could lose what is under way to it.
func (l *loop) finish(c *conn) {
	c.finishing = true
	if c.CloseWrite() != nil {
		l.end(c, &l.stats.reset)
	}
}

// watch changes what the connection waits for.
func (l *loop) watch(c *conn, in epore.Interest) {
	l.must(l.registry.Reregister(c.Conn, epore.Token(c.token), in))
}
