package main

import (
	"errors"
	"net"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// The tokens of a loop. The token of a connection is its index in loop.conns. The index is
// free again when the connection is closed: none of its events arrives after that.
const (
	listenerToken epore.Token = 1<<32 + iota
	stopToken
	idleToken
	resumeToken
	graceToken
)

const (
	// batch is the maximum number of events that a Poll returns.
	batch = 256
	// readSize is the maximum number of bytes of one read, and so of pending data.
	readSize = 64 << 10
	// acceptMost is the number of connections to accept before other events get their turn.
	acceptMost = 64
	// resumeAfter is the pause after a failed Accept, unless a connection is closed before.
	resumeAfter = 100 * time.Millisecond
)

// loop serves connections with one goroutine.
type loop struct {
	poll     *epore.Poll
	registry *epore.Registry
	listener *socket.Listener
	addr     net.Addr
	stop     *epore.Waker // used by other goroutines

	conns []*conn  // by token; nil: free
	free  []uint32 // the free tokens
	live  int
	buf   []byte // read buffer, shared by all connections
	idle  idleList

	idleTimer, resumeTimer, graceTimer *epore.Timer

	paused   bool // accepting is paused
	stopping bool
	grace    time.Duration
	failed   error // ends the loop
	stats    statistics
}

// newLoop opens a loop's Poll, listener, waker and timers.
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

// close closes all that the loop has open.
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

// run is the event loop. It returns nil when the loop was stopped and all data is sent, or
// the time for that is over.
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
				return nil // close closes the remaining connections
			default:
				l.serve(l.conns[ev.Token])
			}
		}
	}
	return l.failed
}

// accept accepts the waiting connections. It fails most likely because the process is out
// of descriptors. The listener then stays readable, and the loop would spin. So accepting
// pauses until a connection is closed or resumeAfter has passed.
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

// must ends the loop if err is not nil.
func (l *loop) must(err error) { l.failed = errors.Join(l.failed, err) }

// newToken returns a free index in conns.
func (l *loop) newToken() (token uint32) {
	if n := len(l.free); n > 0 {
		token, l.free = l.free[n-1], l.free[:n-1]
		return token
	}
	l.conns = append(l.conns, nil)
	return uint32(len(l.conns) - 1)
}

// resume ends a pause of accepting.
func (l *loop) resume() {
	if l.paused && !l.stopping {
		l.paused = false
		l.must(l.registry.Register(l.listener, listenerToken, epore.Readable))
	}
}

// end closes a connection, which also deregisters it, and counts the reason.
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

// closeIdle closes the connections that have expired.
func (l *loop) closeIdle() {
	for c := l.idle.expired(); c != nil; c = l.idle.expired() {
		l.end(c, &l.stats.idle)
	}
	if left, ok := l.idle.next(); ok {
		l.must(l.idleTimer.Reset(left))
	}
}

// beginToStop closes the listener, and the sending half of each connection without pending
// data.
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
