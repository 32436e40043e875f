package main

import (
	"errors"
	"net"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// The tokens of a loop. Those of connections are their places in loop.conns, which a
// connection leaves when it is closed: no event of it comes after that, so that the next
// one can have it.
const (
	listenerToken epore.Token = 1<<32 + iota
	stopToken
	idleToken
	resumeToken
	graceToken
)

const (
	// batch is how many events a Poll returns at most.
	batch = 256
	// readSize is how much is read at once, and so what a connection may have pending.
	readSize = 64 << 10
	// acceptMost is how many connections are accepted before others get their turn.
	acceptMost = 64
	// resumeAfter is how long no connection is accepted, unless one is closed, when that
	// failed.
	resumeAfter = 100 * time.Millisecond
)

// loop serves connections, with one goroutine.
type loop struct {
	poll     *epore.Poll
	registry *epore.Registry
	listener *socket.Listener
	addr     net.Addr
	stop     *epore.Waker // from other goroutines

	conns []*conn  // by token; nil: free
	free  []uint32 // those that are
	live  int
	buf   []byte // for what is read, of whichever connection
	idle  idleList

	idleTimer, resumeTimer, graceTimer *epore.Timer

	paused   bool // accepting
	stopping bool
	grace    time.Duration
	failed   error // ends the loop
	stats    statistics
}

// newLoop opens what a loop needs.
func newLoop(cfg config, addr string, opts []socket.Option, newPoll func() (*epore.Poll, error)) (*loop, error) {
	l := &loop{buf: make([]byte, readSize), grace: cfg.grace}
	l.idle.after = cfg.idle
	if err := l.open(addr, opts, newPoll); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *loop) open(addr string, opts []socket.Option, newPoll func() (*epore.Poll, error)) (err error) {
	if l.poll, err = newPoll(); err != nil {
		return err
	}
	l.registry = l.poll.Registry()
	if l.listener, err = socket.Listen("tcp", addr, opts...); err != nil {
		return err
	}
	l.addr = l.listener.Addr()
	if err = l.registry.Register(l.listener, listenerToken, epore.Readable); err != nil {
		return err
	}
	if l.stop, err = epore.NewWaker(l.registry, stopToken); err != nil {
		return err
	}
	if l.idleTimer, err = epore.NewTimer(l.registry, idleToken); err != nil {
		return err
	}
	if l.resumeTimer, err = epore.NewTimer(l.registry, resumeToken); err != nil {
		return err
	}
	l.graceTimer, err = epore.NewTimer(l.registry, graceToken)
	return err
}

// close closes everything that is open.
func (l *loop) close() error {
	for _, c := range l.conns {
		if c != nil {
			l.end(c, &l.stats.stopped)
		}
	}
	var err error
	if l.listener != nil && !l.stopping {
		err = l.listener.Close()
	}
	if l.poll != nil {
		err = errors.Join(err, l.poll.Close())
	}
	return err
}

// run is the loop. It returns nil when it was stopped and all is sent, or the time for
// that is over.
func (l *loop) run() error {
	events := epore.NewEvents(batch)
	for l.failed == nil && (!l.stopping || l.live > 0) {
		if err := l.poll.Poll(events, epore.Forever); err != nil {
			return err
		}
		l.idle.now()
		for ev := range events.All() {
			switch ev.Token {
			case listenerToken:
				l.accept()
			case stopToken:
				l.beginToStop()
			case idleToken:
				l.closeIdle()
			case resumeToken:
				l.resume()
			case graceToken:
				return nil // close closes those that are left
			default:
				l.serve(l.conns[ev.Token])
			}
		}
	}
	return l.failed
}

// accept takes the connections that wait. When that fails, most likely for want of
// descriptors, they go on waiting, and nothing is accepted until a connection is closed
// or some time has passed: the listener stays readable, so that the loop would spin.
func (l *loop) accept() {
	for range acceptMost {
		s, err := l.listener.Accept()
		if err == socket.ErrWouldBlock {
			return
		}
		if err != nil {
			l.stats.pauses++
			l.paused = true
			_ = l.registry.Deregister(l.listener)
			l.must(l.resumeTimer.Reset(resumeAfter))
			return
		}
		l.stats.accepted++
		c := &conn{Conn: s, token: l.newToken()}
		l.conns[c.token] = c
		l.live++
		if err := l.registry.Register(s, epore.Token(c.token), epore.Readable); err != nil {
			l.end(c, &l.stats.reset)
			continue
		}
		if l.idle.add(c) {
			l.must(l.idleTimer.Reset(l.idle.after))
		}
	}
}

// must ends the loop if err says that it cannot go on.
func (l *loop) must(err error) { l.failed = errors.Join(l.failed, err) }

// newToken returns a free place in conns.
func (l *loop) newToken() (token uint32) {
	if n := len(l.free); n > 0 {
		token, l.free = l.free[n-1], l.free[:n-1]
		return token
	}
	l.conns = append(l.conns, nil)
	return uint32(len(l.conns) - 1)
}

// resume accepts again.
func (l *loop) resume() {
	if l.paused && !l.stopping {
		l.paused = false
		l.must(l.registry.Register(l.listener, listenerToken, epore.Readable))
	}
}

// end closes a connection, which deregisters it, and counts why.
func (l *loop) end(c *conn, why *int) {
	*why++
	_ = c.Close()
	c.release()
	l.idle.remove(c)
	l.conns[c.token] = nil
	l.free = append(l.free, c.token)
	l.live--
	l.resume()
}

// closeIdle closes the connections whose time is over.
func (l *loop) closeIdle() {
	for c := l.idle.expired(); c != nil; c = l.idle.expired() {
		l.end(c, &l.stats.idle)
	}
	if left, ok := l.idle.next(); ok {
		l.must(l.idleTimer.Reset(left))
	}
}

// beginToStop closes the listener, and the sending half of the connections that are owed
// nothing.
func (l *loop) beginToStop() {
	if l.stopping {
		return
	}
	l.stopping = true
	_ = l.listener.Close()
	l.must(l.graceTimer.Reset(l.grace))
	for _, c := range l.conns {
		if c != nil && c.pending == nil {
			l.finish(c)
		}
	}
}
