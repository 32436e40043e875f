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
	"github.com/epore/epore/socket"
)

// Config holds the settings that all loops of a Run share. The zero Config is valid: it limits
// the connections, their memory and the time of handshakes, but not how long a connection may
// be idle. A negative number means the same as 0, except in Grace.
type Config struct {
	// NewPoll opens the Poll of a loop. The loop calls it on its goroutine, and only that
	// goroutine polls. nil means epore.New.
	NewPoll func() (*epore.Poll, error)

	// Network makes the sockets of Listen and Dial, for example those of a simulated host
	// (package sim). nil means package socket. With a Network, one loop accepts the
	// connections of an address, and passes them to the others.
	Network Network

	// MaxConns is the number of connections at which a loop stops accepting. Connections
	// from Dial and Adopt count, but are not refused. 0 means 65,536.
	MaxConns int
	// MaxIn is the number of bytes that a handler may leave unused. If it leaves more, the
	// connection ends with ErrTooLong. 0 means 1 MiB.
	MaxIn int
	// MaxOut limits the unsent bytes of a connection: see [Conn.Write]. 0 means 1 MiB.
	MaxOut int

	// Idle limits how long a connection may neither receive nor send data. It does not
	// apply to paused connections. 0 means no limit.
	Idle time.Duration
	// Handshake limits the TLS handshake of accepted and adopted connections. 0 means 10 s.
	Handshake time.Duration
	// Grace limits the time in which a closing connection sends its unsent data and waits
	// for the peer to close. 0 means 5 s; a negative value means no time.
	Grace time.Duration

	// OnPanic is called after a panic in a handler, with the value of the panic and the
	// connection whose handler it was; c is nil for a function passed to Post, After or
	// Handle. The loop aborts the connection and continues. Without OnPanic the panic
	// continues, and ends the program.
	OnPanic func(c *Conn, value any)

	// OnStall is called after a handler has held up the loop for longer than Stall, with the
	// connection and the time that it took; c is nil as for OnPanic. With OnStall the loop
	// reads the clock at each event.
	OnStall func(c *Conn, d time.Duration)
	// Stall is the threshold of OnStall. 0 means 100 ms.
	Stall time.Duration
}

// Network makes sockets, as the functions of package socket with these names do.
type Network interface {
	Listen(network, address string, opts ...socket.Option) (*socket.Listener, error)
	Dial(network, address string, opts ...socket.Option) (*socket.Conn, error)
}

// system is the Network of package socket.
type system struct{}

func (system) Listen(network, address string, opts ...socket.Option) (*socket.Listener, error) {
	return socket.Listen(network, address, opts...)
}

func (system) Dial(network, address string, opts ...socket.Option) (*socket.Conn, error) {
	return socket.Dial(network, address, opts...)
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
	if c.Network == nil {
		c.Network = system{}
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

// Handler handles the events of connections. A loop calls its methods on the goroutine of the
// loop, one at a time, and never from inside a method of Conn. A Handler that one loop uses
// needs no lock.
type Handler interface {
	// Open is called first, once the connection is accepted or connected and the TLS
	// handshake, if any, is done. It may write, and set a value or a deadline.
	Open(c *Conn)

	// Data is called with the received bytes that are not used yet. It returns how many of
	// them it used. The loop passes the rest again, together with the bytes that arrive
	// next, or alone after [Conn.Resume]. So Data handles all complete messages in b, and
	// leaves an incomplete one. b is valid only during the call.
	Data(c *Conn, b []byte) (used int)

	// Close is called last, exactly once for each Open, except after [Conn.Detach]. The
	// connection is closed. err is nil if the connection ended in order: all written data
	// was sent, and [Conn.Close] was called or the peer closed its half of the connection
	// and left no incomplete message. Otherwise err is the reason.
	Close(c *Conn, err error)
}

// EOFHandler is an optional interface of a Handler. EOF is called when the peer has closed
// its half of the connection. The handler may continue to write, and calls [Conn.CloseWrite]
// when it is done: a connection ends when both halves are closed. Without EOFHandler, the loop
// closes the connection once all written data is sent.
type EOFHandler interface {
	EOF(c *Conn)
}

// Drainer is an optional interface of a Handler. After [Conn.Write] has returned [ErrFull],
// Drained is called once all data of the connection is sent. It may write again.
type Drainer interface {
	Drained(c *Conn)
}

// FailHandler is an optional interface of a Handler. Failed is called for a connection that
// was never opened, because Dial could not connect or the TLS handshake failed. c is closed, so
// its RemoteAddr is nil. A *net.OpError in err names the peer, except after [Conn.Abort] and while
// the loop ends.
type FailHandler interface {
	Failed(c *Conn, err error)
}

// DialHandler is the handler of [Loop.Dial], which reports failures to it.
type DialHandler interface {
	Handler
	FailHandler
}

// Loop serves connections on one goroutine. [Run] creates it. Post may be called from any
// goroutine. All other methods, and all methods of its connections, may only be called on the
// goroutine of the loop: in the start function, in handlers, and in functions passed to Post,
// After and Handle.
//
// A zero Loop serves nothing: methods that return an error fail with fs.ErrInvalid, the others
// do nothing.
type Loop struct {
	cfg   *Config
	group *group
	index int
	poll  *epore.Poll
	inbox *epore.Mailbox[func()]

	conns     []*Conn  // by token; nil: free
	freeSlots []uint32 // those that are
	live      int
	load      atomic.Int32 // live, plus connections that other loops have passed to this one
	current   *Conn        // the connection whose event is handled; settle sends what it wrote
	blamed    *Conn        // the last connection whose handler was called, for OnPanic and OnStall
	delivered []byte       // the argument of Data, during the call
	todo      []*Conn      // for the end of the batch
	doing     []*Conn
	hushed    epore.Interest // of connections that wait for nothing: see hushedEvent

	listeners []*listener
	pausedLs  int
	asked     map[[2]string]int // calls of Listen, by network and address

	buf     []byte    // for what is read, of whichever connection
	buffers []*buffer // not in use
	kept    int       // the bytes that these can hold
	vector  net.Buffers

	now      time.Duration // when the batch began
	due      dueHeap
	dueTimer *epore.Timer
	armed    time.Duration // what it is set to
	resume   *epore.Timer  // of accepting

	handlers map[epore.Token]func(epore.Event)
	next     epore.Token // for handlers

	stopping bool  // nothing new begins
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

// Run runs the given number of loops, each with a separate goroutine and Poll, and returns
// when all of them have ended. If loops is below 1, it is GOMAXPROCS.
//
// Each loop first calls start, which listens, dials, and prepares the loop. The calls come one
// at a time, each on the goroutine of its loop. No loop accepts connections before all calls
// have returned.
//
// When ctx is done, the loops stop accepting, send the written data, and close their
// connections as [Conn.Close] does: within Grace. Then Run returns nil. If start or a Poll
// fails, or a handler ends the goroutine of its loop (runtime.Goexit, as FailNow of a test does),
// all loops end in the same way, and Run returns the errors, joined. When Run returns,
// no goroutine, descriptor or timer that it created is left.
//
// The goroutine of a loop has the pprof label "epore-loop", whose value is the number of the
// loop.
func Run(ctx context.Context, loops int, cfg Config, start func(*Loop) error) error {
	switch {
	case ctx == nil:
		return errNoContext
	case start == nil:
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
			errs[i] = errHandlerGoexit              // unless runLoop returns
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

	sharedMu sync.Mutex // also guards the members of the listeners in shared
	shared   map[address]*sharedListener
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
	if l.poll.Capabilities().OneThread {
		// The first Poll locks the goroutine to its thread. That must happen before the
		// first handshake begins, because a coroutine keeps the locks that it was made
		// with. Nothing has an event yet.
		if err := l.poll.Poll(epore.NewEvents(1), 0); err != nil {
			started <- err
			return errors.Join(err, l.close())
		}
	}
	g.join(l)
	finished := false
	defer func() {
		if !finished { // a function of the program has ended the goroutine
			g.stop()
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
	if l.poll == nil {
		return errNoPoll
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
			switch {
			case slow && ev.Token != inboxToken && ev.Token < firstHandler: // those watch by themselves
				l.watched(func() { l.handle(ev) })
			case ev.Token < epore.Token(len(l.conns)): // as in handle, with one call less
				if c := l.conns[ev.Token]; c != nil {
					l.serve(c, ev)
				}
			default:
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

// watched calls f. It calls OnPanic if f panics, and OnStall if f takes long.
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
					if c.state == dead {
						l.later(c) // it was dead already, and the panic has skipped bury
					}
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

// must ends the loop if err is not nil: the loop cannot work without what has failed.
func (l *Loop) must(err error) { l.failed = errors.Join(l.failed, err) }

// later calls catchUp for c at the end of the batch.
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

// Post calls f on the goroutine of the loop. It may be called from any goroutine, and does not
// wait for the call. Functions that one goroutine posts are called in order. If Post returns
// nil, f is called, even if the loop is ending. If the loop has ended, the error matches
// net.ErrClosed with errors.Is. f must not be nil (fs.ErrInvalid).
func (l *Loop) Post(f func()) error {
	switch {
	case f == nil:
		return errNoFunc
	case l.inbox == nil:
		return fmt.Errorf("loop: post: %w", errZeroLoop)
	}
	if err := l.inbox.Send(f); err != nil {
		return fmt.Errorf("loop: post: %w", err)
	}
	return nil
}

// Handle returns a token for other sources, such as signals, processes and datagram sockets.
// The program registers them with the Registry of [Loop.Poll] under this token. The loop
// calls f with their events, until Unhandle. Handle panics if f is nil: without a function,
// the events of a level-triggered source would repeat indefinitely.
func (l *Loop) Handle(f func(epore.Event)) epore.Token {
	if f == nil {
		panic("loop: Handle: nil function")
	}
	token := l.next
	l.next++
	if l.handlers != nil { // nil: it has ended, or is a zero Loop
		l.handlers[token] = f
	}
	return token
}

// Unhandle makes the loop stop calling the function that was passed to Handle. Deregister
// the source first. No later Handle returns the same token.
func (l *Loop) Unhandle(token epore.Token) { delete(l.handlers, token) }

// Poll returns the Poll of the loop, to register other sources: see [Loop.Handle]. The program
// must not poll or close it.
func (l *Loop) Poll() *epore.Poll { return l.poll }

// Timer calls a function once: see [Loop.After].
type Timer struct {
	loop  *Loop
	timer *epore.Timer
	token epore.Token
}

// After calls f once on the goroutine of the loop, after d and never earlier. To limit the time
// of connections, Idle and [Conn.SetDeadline] are cheaper. Run does not wait for Timers. After
// panics if f is nil.
func (l *Loop) After(d time.Duration, f func()) *Timer {
	if f == nil {
		panic("loop: After: nil function")
	}
	t := &Timer{loop: l}
	if l.poll == nil {
		return t // of a zero Loop
	}
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

// Stop prevents the call. It reports false if the function has been called, is being called, or
// was stopped before.
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
