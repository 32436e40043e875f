package loop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"runtime/pprof"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/epore/epore"
)

// Config is what the loops of a Run have in common. The zero Config is usable: everything
// that a peer could exhaust is bounded.
type Config struct {
	// NewPoll opens the Poll of a loop. nil: epore.New. The loop calls it on its goroutine,
	// and is the only one that polls.
	NewPoll func() (*epore.Poll, error)

	// MaxConns is how many connections a loop has at most before it stops to accept. What
	// Dial and Adopt add is counted, but not refused. 0: 65,536.
	MaxConns int
	// MaxIn is how many bytes a handler may leave unused. More of them end the connection
	// with ErrTooLong. 0: 1 MiB.
	MaxIn int
	// MaxOut is how many bytes of a connection wait to be sent at most: see Write. A
	// connection with half of that waiting is not read. 0: 1 MiB.
	MaxOut int

	// Idle ends a connection on which nothing was received or sent for so long. Paused
	// connections are not idle. 0: never.
	Idle time.Duration
	// Handshake is how long a TLS handshake of an accepted connection may take. 0: 10 s.
	Handshake time.Duration
	// Grace is how long a connection that is being closed has to send what was written, and
	// to wait for the peer's end. 0: 5 s. Negative: no time.
	Grace time.Duration

	// OnPanic is called with the value of a panic in a handler, and the connection that was
	// being handled; nil if it was a function of Post, After or Handle. The connection is
	// then aborted, and the loop goes on. Without OnPanic the panic goes on.
	OnPanic func(c *Conn, value any)

	// OnStall is called after a handler has kept the loop from everything else for longer
	// than Stall (0: 100 ms), with the connection and the time. c is nil as for OnPanic.
	// With OnStall the loop reads the clock for each event.
	OnStall func(c *Conn, d time.Duration)
	Stall   time.Duration
}

const (
	defaultMaxConns  = 1 << 16
	defaultMaxIn     = 1 << 20
	defaultMaxOut    = 1 << 20
	defaultHandshake = 10 * time.Second
	defaultGrace     = 5 * time.Second
	defaultStall     = 100 * time.Millisecond
)

func (c *Config) setDefaults() {
	set := func(v *int, to int) {
		if *v <= 0 {
			*v = to
		}
	}
	set(&c.MaxConns, defaultMaxConns)
	set(&c.MaxIn, defaultMaxIn)
	set(&c.MaxOut, defaultMaxOut)
	if c.NewPoll == nil {
		c.NewPoll = func() (*epore.Poll, error) { return epore.New() }
	}
	if c.Handshake <= 0 {
		c.Handshake = defaultHandshake
	}
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	c.Grace = max(c.Grace, 0)
	if c.Stall <= 0 {
		c.Stall = defaultStall
	}
}

// Handler is what a program does with its connections. A loop calls it on its goroutine,
// one call after the other, and never from inside a method of Conn. A Handler that belongs
// to one loop needs no lock.
type Handler interface {
	// Open is called first: the connection is accepted, connected, or the TLS handshake is
	// done. It may write, and set a value or a deadline.
	Open(c *Conn)

	// Data is called with what was received and not used: at first what has arrived, and
	// later the rest that an earlier call left together with what has arrived since. It
	// returns how many bytes it used. The rest comes again when more has arrived, or after
	// Resume; so Data uses as many whole messages as there are. b is valid during the call.
	Data(c *Conn, b []byte) (used int)

	// Close is called last, exactly once for each Open, unless Detach took the connection
	// away. err is nil when the connection ended in order: everything that was written was
	// sent, and either the peer ended its half without leaving a part of a message, or
	// [Conn.Close] was called. Otherwise err says what happened. The connection is closed.
	Close(c *Conn, err error)
}

// EOFHandler is a Handler that decides what to do when the peer has ended its half of the
// connection. It may go on writing, and calls [Conn.CloseWrite] in the end: the connection
// ends when both halves have. Without it, the connection is closed once everything that was
// written is sent.
type EOFHandler interface {
	EOF(c *Conn)
}

// Drainer is a Handler that wants to know when everything is sent after Write returned
// ErrFull.
type Drainer interface {
	Drained(c *Conn)
}

// FailHandler is a Handler that is told of connections that were never opened: attempts of
// Dial, and TLS handshakes. c is closed.
type FailHandler interface {
	Failed(c *Conn, err error)
}

// DialHandler is what Dial needs: an attempt that fails is told.
type DialHandler interface {
	Handler
	FailHandler
}

// Loop serves connections on one goroutine. [Run] makes it. Post may be called from any
// goroutine; all other methods, and all methods of its connections, only on the goroutine
// of the loop: in start, in handlers, and in functions that were given to Post, After and
// Handle.
type Loop struct {
	cfg   *Config
	group *group
	index int
	poll  *epore.Poll
	inbox *epore.Mailbox[func()]

	conns     []*Conn  // by token; nil: free
	freeSlots []uint32 // those that are
	live      int
	load      atomic.Int32 // live, and what other loops have dealt to this one
	current   *Conn        // whose event is handled: what it writes is sent afterwards
	blamed    *Conn        // for OnPanic and OnStall: the last one whose handler was called
	delivered []byte       // what Data was called with
	todo      []*Conn      // for the end of the batch
	doing     []*Conn
	hushed    epore.Interest // for connections that wait for nothing: see hush

	listeners []*listener
	pausedLs  int
	asked     map[[2]string]int // calls of Listen, by network and address

	buf     []byte    // for what is read, of whichever connection
	buffers []*buffer // not in use
	vector  net.Buffers

	now      time.Duration // when the batch began
	due      dueHeap
	dueTimer *epore.Timer
	armed    time.Duration // what it is set to
	resume   *epore.Timer  // of accepting

	handlers map[epore.Token]func(epore.Event)
	next     epore.Token // for handlers

	stopping bool // nothing new begins
	ended    bool
	failed   error // ends the loop
}

// The tokens of a loop. Those of connections are their places in conns.
const (
	inboxToken epore.Token = 1<<32 + iota
	dueToken
	resumeToken

	firstListener epore.Token = 1 << 33
	firstHandler  epore.Token = 1 << 34
)

const (
	// batch is how many events a Poll returns at most.
	batch = 256
	// readSize is how much is read at once.
	readSize = 64 << 10
)

// Run runs loops, each with a goroutine, a Poll and a call of start, which listens, dials,
// and sets up what a loop needs. The calls of start come one after the other, each on the
// goroutine of its loop, and nothing is accepted before the last one has returned. With
// loops below 1 there is one for each processor that the program uses (GOMAXPROCS).
//
// When ctx is done, the loops stop to accept, send what was written, end their connections,
// wait up to Grace for the peers to end theirs, and reset those that have not taken
// everything by then. Run returns when everything that it started has ended: nil, or what
// start or a Poll failed with, which ends all loops. That ctx is done is no error.
//
// The goroutine of a loop has the pprof label epore-loop with the number of the loop.
func Run(ctx context.Context, loops int, cfg Config, start func(*Loop) error) error {
	if start == nil {
		return errNoStart
	}
	if loops < 1 {
		loops = runtime.GOMAXPROCS(0)
	}
	cfg.setDefaults()
	g := &group{cfg: &cfg, size: loops, ready: make(chan struct{}), shared: make(map[address]*sharedListener)}
	defer context.AfterFunc(ctx, g.stop)()
	errs := make([]error, loops)
	var running sync.WaitGroup
	for i := range loops {
		started := make(chan error, 1)
		running.Add(1)
		go func() {
			defer running.Done()
			defer func() { started <- errGoexit }() // heard only if nothing was sent before
			pprof.SetGoroutineLabels(pprof.WithLabels(ctx, pprof.Labels("epore-loop", strconv.Itoa(i))))
			errs[i] = g.runLoop(i, start, started)
		}()
		if err := <-started; err != nil {
			if err == errGoexit {
				errs[i] = err
			}
			g.stop()
			break
		}
	}
	close(g.ready)
	running.Wait()
	return errors.Join(errs...)
}

// group is the loops of a Run.
type group struct {
	cfg   *Config
	size  int
	ready chan struct{} // closed when all have started

	mu       sync.Mutex
	loops    []*Loop
	stopping bool

	// Of the start functions, which come one at a time.
	shared map[address]*sharedListener
}

// stop has all loops end.
func (g *group) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopping = true
	for _, l := range g.loops {
		_ = l.inbox.Send(l.stop) // it fails for a loop that has ended
	}
}

// join adds a loop, and has it end if the others do.
func (g *group) join(l *Loop) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.loops = append(g.loops, l)
	if g.stopping {
		_ = l.inbox.Send(l.stop)
	}
}

// runLoop is the goroutine of a loop.
func (g *group) runLoop(i int, start func(*Loop) error, started chan<- error) (err error) {
	l := &Loop{cfg: g.cfg, group: g, index: i, armed: never, buf: make([]byte, readSize), now: clock(),
		handlers: make(map[epore.Token]func(epore.Event)), next: firstHandler}
	if err := l.open(); err != nil {
		started <- err
		return errors.Join(err, l.close())
	}
	if l.poll.Capabilities().OneThread { // the first one that polls
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	g.join(l)
	finished := false
	defer func() {
		if !finished { // start ended the goroutine
			_ = l.close()
		}
	}()
	err = start(l)
	started <- err
	<-g.ready
	if err == nil {
		err = l.run()
	}
	if err != nil {
		g.stop()
	}
	finished = true
	return errors.Join(err, l.close())
}

func (l *Loop) open() (err error) {
	if l.poll, err = l.cfg.NewPoll(); err != nil {
		return err
	}
	// What a connection is registered for that waits for nothing but its end.
	if l.hushed = epore.Writable | epore.Edge; !l.poll.Capabilities().Interests.Has(epore.Edge) {
		l.hushed = epore.Priority
	}
	r := l.poll.Registry()
	if l.inbox, err = epore.NewMailbox[func()](r, inboxToken); err != nil {
		return err
	}
	if l.dueTimer, err = epore.NewTimer(r, dueToken); err != nil {
		return err
	}
	l.resume, err = epore.NewTimer(r, resumeToken)
	return err
}

// close ends everything that has not ended, and the Poll.
func (l *Loop) close() (err error) {
	l.stopping = true
	for _, ls := range l.listeners {
		_ = ls.sock.Close()
	}
	why := l.failed
	if why == nil {
		why = ErrEnding
	}
	for _, c := range l.conns {
		if c != nil {
			c.die(why)
			l.call(func() { l.bury(c) })
		}
	}
	if l.inbox != nil { // what Post took is called
		_ = l.inbox.CloseSend()
		for f := range l.inbox.All() {
			l.call(f)
		}
	}
	l.ended = true
	l.conns, l.listeners, l.todo, l.due, l.handlers = nil, nil, nil, nil, nil
	if l.poll != nil {
		err = l.poll.Close()
	}
	return err
}

// run is the loop.
func (l *Loop) run() error {
	events := epore.NewEvents(batch)
	slow := l.cfg.OnPanic != nil || l.cfg.OnStall != nil
	for l.failed == nil && (!l.stopping || l.live > 0 || len(l.todo) > 0) {
		timeout := epore.Forever
		if len(l.todo) > 0 {
			timeout = 0
		}
		if err := l.poll.Poll(events, timeout); err != nil {
			l.failed = err
			break
		}
		l.now = clock()
		for ev := range events.All() {
			if slow && ev.Token != inboxToken && ev.Token < firstHandler { // those watch by themselves
				l.watched(func() { l.handle(ev) })
			} else {
				l.handle(ev)
			}
		}
		l.todo, l.doing = l.doing[:0], l.todo
		for i, c := range l.doing {
			l.doing[i] = nil
			if slow {
				l.watched(func() { l.catchUp(c) })
			} else {
				l.catchUp(c)
			}
		}
	}
	return l.failed
}

// handle does what an event is about.
func (l *Loop) handle(ev epore.Event) {
	if ev.Token < epore.Token(len(l.conns)) {
		if c := l.conns[ev.Token]; c != nil {
			l.serve(c, ev)
		}
		return
	}
	switch {
	case ev.Token == inboxToken:
		for f := range l.inbox.All() {
			l.call(f)
		}
	case ev.Token == dueToken:
		l.expire()
	case ev.Token == resumeToken:
		l.resumeAccepting()
	case ev.Token >= firstHandler:
		if f := l.handlers[ev.Token]; f != nil {
			l.call(func() { f(ev) })
		}
	case ev.Token >= firstListener:
		l.accept(l.listeners[ev.Token-firstListener])
	}
}

// call calls a function of the program.
func (l *Loop) call(f func()) {
	if l.cfg.OnPanic != nil || l.cfg.OnStall != nil {
		l.watched(f)
		return
	}
	f()
}

// watched calls f, and OnPanic and OnStall when there is something to tell.
func (l *Loop) watched(f func()) {
	l.current, l.blamed = nil, nil
	begin := clock()
	defer func() {
		c := l.blamed
		l.current, l.blamed, l.delivered = nil, nil, nil
		if l.cfg.OnPanic != nil {
			if v := recover(); v != nil {
				if c != nil {
					c.Abort()
					c.err = panicError{v}
				}
				l.cfg.OnPanic(c, v)
			}
		}
		if l.cfg.OnStall != nil {
			if d := clock() - begin; d > l.cfg.Stall {
				l.cfg.OnStall(c, d)
			}
		}
	}()
	f()
}

// must ends the loop if err says that it cannot go on.
func (l *Loop) must(err error) { l.failed = errors.Join(l.failed, err) }

// later has c looked at when the batch is through.
func (l *Loop) later(c *Conn) {
	if !c.queued {
		c.queued = true
		l.todo = append(l.todo, c)
	}
}

// stop begins the end.
func (l *Loop) stop() {
	if l.stopping {
		return
	}
	l.stopping = true
	for _, ls := range l.listeners {
		_ = ls.sock.Close()
	}
	for _, c := range l.conns {
		switch {
		case c == nil:
		case c.state < open:
			c.die(ErrEnding)
		case c.state == open:
			c.err = ErrEnding
			c.Close()
		}
	}
}

// Post has f called on the goroutine of the loop, soon, and in the order of the calls of one
// goroutine. It may be called from any goroutine, and does not wait. It fails when the loop
// has ended; a function that was taken is called, also when the loop is ending.
func (l *Loop) Post(f func()) error {
	if f == nil {
		return errNoHandler
	}
	if err := l.inbox.Send(f); err != nil {
		return fmt.Errorf("loop: post: %w", err)
	}
	return nil
}

// Handle returns a token for sources of the program's own, such as signals, processes and
// datagram sockets. The program registers them with [Loop.Poll], and f is called with their
// events, until Unhandle. Level-triggered registrations are the simplest.
func (l *Loop) Handle(f func(epore.Event)) epore.Token {
	token := l.next
	l.next++
	if f != nil && !l.ended {
		l.handlers[token] = f
	}
	return token
}

// Unhandle ends Handle. Deregister the source first. The token is not used again.
func (l *Loop) Unhandle(token epore.Token) { delete(l.handlers, token) }

// Poll returns the Poll of the loop, to register what the loop does not know. Nobody else
// polls it or closes it.
func (l *Loop) Poll() *epore.Poll { return l.poll }

// Timer calls a function once: see [Loop.After].
type Timer struct {
	loop  *Loop
	timer *epore.Timer
	token epore.Token
}

// After calls f on the goroutine of the loop after d, never early. It is for what a program
// does now and then; the limits of connections (Idle, SetDeadline) cost no Timer. A Timer
// does not keep Run from returning.
func (l *Loop) After(d time.Duration, f func()) *Timer {
	t := &Timer{loop: l}
	t.token = l.Handle(func(epore.Event) {
		t.Stop()
		f()
	})
	var err error
	if t.timer, err = epore.NewTimer(l.poll.Registry(), t.token); err == nil {
		err = t.timer.Reset(d)
	}
	if err != nil { // the loop has ended
		t.Stop()
	}
	return t
}

// Stop prevents the call, and reports whether it did: false means that the function was
// called, or is being called, or that the Timer was stopped before.
func (t *Timer) Stop() bool {
	if t.timer == nil {
		return false
	}
	if _, waiting := t.loop.handlers[t.token]; !waiting {
		return false
	}
	t.loop.Unhandle(t.token)
	_ = t.timer.Close()
	return true
}
