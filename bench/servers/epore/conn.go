package main

import (
	"io"
	"sync"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// conn is a connection. While its client reads fast enough, it needs no buffer: the loop
// reads into its buffer and writes from it. When a write would block, the rest is kept in
// pending, and nothing more is read from the client until that is sent. So the server
// holds at most readSize bytes for a client, and TCP's flow control soon stops a client
// that writes without reading.
type conn struct {
	*socket.Conn
	pending *pending

	// The links and the time of idleList.
	before, after *conn
	last          time.Duration

	token     uint32
	finishing bool // the sending half is closed
}

// pending is the data that could not be sent yet.
type pending struct {
	rest []byte
	buf  [readSize]byte
}

var pendings = sync.Pool{New: func() any { return new(pending) }}

// keep copies b into pending.
func (c *conn) keep(b []byte) {
	c.pending = pendings.Get().(*pending)
	c.pending.rest = c.pending.buf[:copy(c.pending.buf[:], b)]
}

// release frees pending.
func (c *conn) release() {
	if c.pending != nil {
		pendings.Put(c.pending)
		c.pending = nil
	}
}

// serve handles an event. It reads once, so that the other connections get their turn:
// registrations are level-triggered, so the event comes again if more data is available.
func (l *loop) serve(c *conn) {
	if c.pending != nil {
		l.flush(c)
		return
	}
	n, err := c.Read(l.buf)
	switch {
	case c.finishing && err == nil, err == socket.ErrWouldBlock:
		return
	case err == io.EOF: // the client has closed at least its sending half; everything is sent
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
		l.watch(c, epore.Writable) // and not Readable
	case err != nil:
		l.end(c, &l.stats.reset)
	}
}

// flush sends the pending data.
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

// finish closes the sending half and lets the client close the other. Data that the client
// still sends is read and discarded: closing a socket with unread data resets the
// connection, and the client could lose data that is on its way to it.
func (l *loop) finish(c *conn) {
	c.finishing = true
	if c.CloseWrite() != nil {
		l.end(c, &l.stats.reset)
	}
}

// watch changes the interest of the connection.
func (l *loop) watch(c *conn, in epore.Interest) {
	l.must(l.registry.Reregister(c.Conn, epore.Token(c.token), in))
}
