package loop

import (
	"fmt"
	"io"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// buffer holds bytes. Those before from have been used or sent.
type buffer struct {
	b    []byte
	from int
}

func (b *buffer) len() int     { return len(b.b) - b.from }
func (b *buffer) rest() []byte { return b.b[b.from:] }

// add appends p.
func (b *buffer) add(p []byte) {
	if b.from > len(b.b)/2 {
		b.b, b.from = b.b[:copy(b.b, b.rest())], 0
	}
	b.b = append(b.b, p...)
}

const (
	// A new buffer is small, because most messages are. A message to thousands of connections
	// needs one for each until the end of the batch.
	smallBuffer = 512
	// Buffers up to keepSize are reused, and all that wait for that have at most keepAll bytes.
	keepSize = 2 * readSize
	keepAll  = 64 * keepSize
)

// take returns an empty buffer.
func (l *Loop) take() *buffer {
	if n := len(l.buffers); n > 0 {
		b := l.buffers[n-1]
		l.buffers = l.buffers[:n-1]
		l.kept -= cap(b.b)
		return b
	}
	return &buffer{b: make([]byte, 0, smallBuffer)}
}

// release returns a buffer for reuse and sets *b to nil.
func (l *Loop) release(b **buffer) {
	if *b != nil {
		if n := cap((*b).b); n <= keepSize && l.kept+n <= keepAll {
			(*b).b, (*b).from = (*b).b[:0], 0
			l.buffers = append(l.buffers, *b)
			l.kept += n
		}
	}
	*b = nil
}

// newConn makes a Conn, which is open.
func (l *Loop) newConn(sock *socket.Conn, h Handler) *Conn {
	c := &Conn{sock: sock, loop: l, handler: h, state: open, last: clock(), limit: never, place: -1}
	if n := len(l.freeSlots); n > 0 {
		c.token, l.freeSlots = l.freeSlots[n-1], l.freeSlots[:n-1]
		l.conns[c.token] = c
	} else {
		c.token = uint32(len(l.conns))
		l.conns = append(double(l.conns), c)
	}
	l.live++
	return c
}

// remove removes c from the loop.
func (l *Loop) remove(c *Conn) {
	c.state = gone
	l.due.remove(c)
	l.conns[c.token] = nil
	l.freeSlots = append(l.freeSlots, c.token)
	l.live--
	l.load.Add(-1)
	if l.pausedLs > 0 {
		l.resumeAccepting()
	}
}

// enter makes c the current connection, before its handler may be called.
func (l *Loop) enter(c *Conn) { l.current, l.blamed = c, c }

// opened calls Open.
func (l *Loop) opened(c *Conn) {
	c.state, c.opened, c.last, c.err = open, true, l.now, nil
	if !c.deadline {
		c.limit = never
	}
	l.schedule(c)
	l.enter(c)
	c.handler.Open(c)
	l.settle(c)
}

// serve handles an event of c.
func (l *Loop) serve(c *Conn, ev epore.Event) {
	l.enter(c)
	switch c.state {
	case connecting:
		l.connected(c)
	case shaking:
		l.shake(c)
		return
	case open, closing:
		if c.registered == l.hushed {
			l.hushedEvent(c, ev)
			break
		}
		if c.blocked && ev.Writable() {
			l.flush(c)
		}
		if ev.Readable() && c.reads() && c.flow != resumed { // what was left comes first, in catchUp
			l.read(c)
		}
	}
	l.settle(c)
}

// connected checks whether an attempt to connect has ended.
func (l *Loop) connected(c *Conn) {
	switch err := c.sock.ConnectError(); {
	case err == socket.ErrWouldBlock:
	case err != nil:
		c.die(err)
	case c.tls != nil:
		l.secure(c, c.tls)
		l.shake(c)
	default:
		l.opened(c)
	}
}

// shake continues the handshake.
func (l *Loop) shake(c *Conn) {
	err := c.tls.Handshake()
	c.blocked = c.tls.Buffered() > 0
	switch {
	case err == socket.ErrWouldBlock:
		l.settle(c)
	case err != nil:
		c.die(err)
		l.settle(c)
	default:
		l.opened(c)
		if c.state == open && c.reads() { // data that came with the handshake gives no event
			l.enter(c)
			l.read(c)
			l.settle(c)
		}
	}
}

// catchUp does what is due for c without an event.
func (l *Loop) catchUp(c *Conn) {
	c.queued = false
	l.enter(c)
	switch {
	case c.state == gone:
		return
	case c.state == connecting:
		l.connected(c)
	case c.state == open && c.delivers():
		if c.flow == resumed {
			c.flow = flowing
			if c.in != nil {
				l.deliver(c, c.in.rest())
			}
		}
		if c.unread() {
			l.read(c)
		}
	}
	l.settle(c)
}

// reads reports whether the loop reads from c at the moment.
func (c *Conn) reads() bool {
	switch {
	case c.ended:
		return false
	case c.state == closing:
		return true
	}
	return c.delivers()
}

// delivers reports whether the loop calls Data of an open connection at the moment.
func (c *Conn) delivers() bool { return c.flow != paused && (!c.blocked || c.Buffered() <= enough) }

// read reads once and passes the bytes to the handler.
func (l *Loop) read(c *Conn) {
	if c.state == closing { // the data is discarded, without decrypting it
		n, err := c.sock.Read(l.buf)
		if l.received(c, n, err) && n > 0 {
			c.last = l.now
		}
		return
	}
	b, rest := l.buf, 0
	if c.in != nil {
		if rest = c.in.len(); rest <= readSize/8 {
			b = l.buf[rest:]
		} else {
			b = c.in.room()
		}
	}
	var n int
	var err error
	if !c.secure {
		n, err = c.sock.Read(b)
	} else {
		n, err = l.readTLS(c, b)
	}
	if !l.received(c, n, err) {
		return
	}
	c.last = l.now
	switch {
	case c.in == nil:
		l.deliver(c, b[:n])
	case rest <= readSize/8:
		copy(l.buf, c.in.rest())
		l.release(&c.in)
		l.deliver(c, l.buf[:rest+n])
	default:
		c.in.b = c.in.b[:len(c.in.b)+n]
		l.deliver(c, c.in.rest())
	}
}

// unread reports whether a read may succeed although no event comes.
func (c *Conn) unread() bool {
	return c.secure && (c.more || c.tls.Pending()) && c.state == open && c.reads()
}

// room returns free space behind the bytes, for a read.
func (b *buffer) room() []byte {
	if free := cap(b.b) - len(b.b); free < readSize/4 {
		if b.from > 0 {
			b.b, b.from = b.b[:copy(b.b, b.rest())], 0
		}
		if free = cap(b.b) - len(b.b); free < readSize/4 {
			bigger := make([]byte, len(b.b), 2*cap(b.b)+readSize/2)
			copy(bigger, b.b)
			b.b = bigger
		}
	}
	return b.b[len(b.b):cap(b.b)]
}

// readTLS reads several records into b, as far as they have arrived.
func (l *Loop) readTLS(c *Conn, b []byte) (n int, err error) {
	for n < len(b) && (n == 0 || c.tls.Pending()) {
		var m int
		m, err = c.tls.Read(b[n:])
		n += m
		if err != nil {
			break
		}
	}
	c.blocked = c.tls.Buffered() > 0
	c.more = n > 0 && err != nil && err != socket.ErrWouldBlock // crypto/tls repeats the error
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// received handles the result of a read, except for the bytes. It reports whether there are
// any.
func (l *Loop) received(c *Conn, n int, err error) bool {
	switch {
	case err == nil:
		return n > 0
	case err == socket.ErrWouldBlock:
	case err == io.EOF:
		c.ended = true
		if c.state == open {
			l.peerEnded(c)
		}
	default:
		c.die(err)
	}
	return false
}

// peerEnded handles the end of the peer's half.
func (l *Loop) peerEnded(c *Conn) {
	if h, ok := c.handler.(EOFHandler); ok {
		h.EOF(c)
		return
	}
	if c.in != nil {
		c.err = fmt.Errorf("loop: read: the peer closed in the middle of a message: %w", io.ErrUnexpectedEOF)
	}
	c.Close()
}

// deliver passes b to the handler, and keeps the bytes that it does not use. Either b is the
// content of c.in, or c.in is nil.
func (l *Loop) deliver(c *Conn, b []byte) {
	l.delivered = b
	used := c.handler.Data(c, b)
	l.delivered = nil
	if used < 0 || used > len(b) {
		panic(fmt.Sprintf("loop: Data used %d of %d bytes", used, len(b)))
	}
	if c.state != open {
		return
	}
	rest := b[used:]
	switch {
	case len(rest) == 0:
		l.release(&c.in)
		return
	case c.in != nil:
		c.in.from += used
	default:
		c.in = l.take()
		c.in.b = append(c.in.b, rest...)
	}
	if len(rest) > l.cfg.MaxIn && c.flow != paused {
		c.die(ErrTooLong)
	}
}

// flush sends the unsent data, as far as the system accepts it.
func (l *Loop) flush(c *Conn) {
	var n int
	var err error
	if c.secure {
		n, err = l.flushTLS(c)
	} else if c.out != nil {
		n, err = c.sock.Write(c.out.rest())
		c.out.from += n
	}
	l.sent(c, n, err)
}

// sent handles the result of a write of n bytes.
func (l *Loop) sent(c *Conn, n int, err error) {
	if n > 0 {
		c.last = l.now
	}
	switch {
	case err == nil:
		c.blocked = false
		l.release(&c.out)
	case err == socket.ErrWouldBlock:
		c.blocked = true
		if c.out != nil && c.out.len() == 0 { // all of it is encrypted
			l.release(&c.out)
		}
	default:
		c.die(err)
	}
}

// flushTLS encrypts and sends the unsent data piece by piece, so that at most one piece is in
// memory twice.
func (l *Loop) flushTLS(c *Conn) (n int, err error) {
	for {
		if before := c.tls.Buffered(); before > 0 {
			err = c.tls.Flush()
			n += before - c.tls.Buffered()
			if err != nil {
				return n, err
			}
		}
		if c.out == nil || c.out.len() == 0 {
			return n, nil
		}
		m, err := c.tls.Write(c.out.b[c.out.from:min(len(c.out.b), c.out.from+eager)])
		c.out.from += m
		if err != nil {
			return n, err
		}
		n += m
		if c.tls.Buffered() > 0 {
			return n, socket.ErrWouldBlock
		}
	}
}

// writeDirect sends the gathered data and b. It copies only what the system does not accept.
func (l *Loop) writeDirect(c *Conn, b []byte) (int, error) {
	if c.out == nil {
		n, err := c.sock.Write(b)
		if err == socket.ErrWouldBlock {
			c.out = l.take()
			c.out.b = append(c.out.b, b[n:]...)
		}
		if l.sent(c, n, err); c.state == dead {
			return 0, c.err
		}
		return len(b), nil
	}
	l.vector = append(l.vector[:0], c.out.rest(), b)
	rest := l.vector
	n, err := c.sock.WriteBuffers(&rest)
	gathered := min(int(n), c.out.len())
	c.out.from += gathered
	if err == socket.ErrWouldBlock {
		c.out.add(b[int(n)-gathered:])
	}
	clear(l.vector)
	if l.sent(c, int(n), err); c.state == dead {
		return 0, c.err
	}
	return len(b), nil
}

// settle is called after everything that is done with c. It sends the written data, and
// registers c for what it waits for.
func (l *Loop) settle(c *Conn) {
	if c.state == open || c.state == closing {
		if c.out != nil && !c.blocked {
			l.flush(c)
		}
		if c.state != open || c.full || c.shut || c.ended || c.secure {
			l.finish(c)
		}
	}
	if c.flow == resumed && c.state == open && c.delivers() {
		l.later(c) // Resume was called while too much was unsent, or during this event
	}
	if c.state < dead {
		l.watch(c)
	}
	if c.state == dead {
		l.bury(c)
	}
	l.current = nil
}

// finish does what may follow when the written data is sent: it calls Drained, and closes what
// is to be closed.
func (l *Loop) finish(c *Conn) {
	if c.full && c.state == open && c.Buffered() == 0 {
		c.full = false
		if h, ok := c.handler.(Drainer); ok {
			h.Drained(c)
			if c.out != nil && !c.blocked && c.state < dead {
				l.flush(c)
			}
		}
		if c.full && c.state == open && c.Buffered() == 0 {
			l.later(c) // all of it has left, and no event follows: call Drained again
		}
	}
	if c.unread() {
		l.later(c)
	}
	if c.state >= dead || c.Buffered() > 0 {
		return
	}
	if c.state == closing && c.ended && c.tls == nil { // closing the socket ends this half
		c.die(c.err)
		return
	}
	if c.shut && !c.shutDone {
		c.shutDone = true
		if err := l.shutdown(c); err != nil {
			if c.state == closing && c.ended { // the peer has what it wanted
				err = c.err
			}
			c.die(err)
		}
	}
	if c.ended && c.shutDone && c.Buffered() == 0 && c.state < dead { // both halves
		c.die(c.err)
		return
	}
	if c.state == closing && c.tls != nil && c.Buffered() == 0 && !c.finDone {
		c.finDone = true // no key update needs an answer any more
		if err := c.sock.CloseWrite(); err != nil {
			c.die(err)
		}
	}
}

// shutdown closes this half.
func (l *Loop) shutdown(c *Conn) error {
	if c.tls == nil {
		return c.sock.CloseWrite()
	}
	err := c.tls.CloseWrite()
	c.blocked = c.tls.Buffered() > 0
	return err
}

// watch registers c for what it waits for, if that has changed.
func (l *Loop) watch(c *Conn) {
	want := c.wants()
	if want == c.registered {
		return
	}
	r, token := l.poll.Registry(), epore.Token(c.token)
	var err error
	switch {
	case c.registered == 0:
		err = r.Register(c.sock, token, want)
	case want == 0:
		err = r.Deregister(c.sock)
	default:
		err = r.Reregister(c.sock, token, want)
	}
	c.registered = want
	if err != nil {
		c.die(err)
	}
}

// wants returns what c waits for.
func (c *Conn) wants() (in epore.Interest) {
	if c.state == connecting {
		return epore.Writable
	}
	if c.state == shaking || c.reads() {
		in = epore.Readable
	}
	if c.blocked {
		in |= epore.Writable
	}
	if in == 0 && !c.deaf {
		in = c.loop.hushed
	}
	return in
}

// hushedEvent handles an event of a connection that is neither read nor written, because it is
// paused or the peer has closed its half. It stays registered, so that a reset ends it. On a
// queue with edges, it is registered for Writable edges: one event follows at once and means
// nothing, the next one comes when something happens. On the others (poll(2), Windows) it is
// registered for urgent data, which hardly any peer sends. There, an event that is no error
// would repeat indefinitely, so the connection is deregistered until it is read again.
func (l *Loop) hushedEvent(c *Conn, ev epore.Event) {
	if !ev.Error() {
		c.deaf = l.hushed&epore.Edge == 0
		return
	}
	for {
		_, err := c.sock.Read(l.buf)
		switch {
		case err == nil: // data from before the reset
		case err == socket.ErrWouldBlock:
			return
		case err == io.EOF:
			c.die(c.resetError())
			return
		default:
			c.die(err)
			return
		}
	}
}

// die closes c at once. Its handler is called later, by bury.
func (c *Conn) die(err error) {
	if c.state >= dead || c.loop == nil {
		return
	}
	if c.state < open {
		err = c.failure(err)
	}
	c.err = err
	if c.tls != nil {
		_ = c.tls.Close()
	} else {
		_ = c.sock.Close()
	}
	c.state, c.registered = dead, 0
	c.forget()
	c.loop.release(&c.out)
	if c != c.loop.current {
		c.loop.later(c)
	}
}

// forget drops the received bytes. It does not reuse a buffer that Data is reading.
func (c *Conn) forget() {
	if c == c.loop.current && c.loop.delivered != nil {
		c.in = nil
		return
	}
	c.loop.release(&c.in)
}

// bury removes a closed connection, and calls its handler.
func (l *Loop) bury(c *Conn) {
	if c.state != dead {
		return
	}
	l.remove(c)
	l.enter(c)
	if c.opened {
		c.handler.Close(c, c.err)
	} else if h, ok := c.handler.(FailHandler); ok {
		h.Failed(c, c.err)
	}
	l.current = nil
}
