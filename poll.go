package epore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/nilvalue"
)

// Forever is the timeout of a Poll that waits until something happens. Every
// negative timeout means the same.
const Forever time.Duration = -1

// Poll is an event queue: sources are registered with its [Registry], and its
// method Poll waits for their events.
//
// One goroutine at a time calls Poll or PollContext; everything else may be
// called from any goroutine at any time. A Poll holds descriptors: Close it. The
// zero Poll answers every call with an error.
type Poll struct {
	be    backend.Backend
	caps  backend.Capabilities
	table table
	own   Registry // the Registry that the Poll lends
	log   hclog.Logger
	trace bool

	// seat is held by the goroutine that polls: the single waiter.
	seat sync.Mutex
	// closed is set once, under table.mu. Then, when the seat is free, the backend
	// is closed, and released set, under table.mu too.
	closed   atomic.Bool
	released bool
	// sleeping says how the waiter sleeps, so that interrupt knows how to end it.
	// The waiter stores it, then looks once more for a reason to stay awake
	// (mustStayAwake); who has a reason stores that, then looks at sleeping. One
	// of the two sees the other, so no wake-up is lost.
	sleeping atomic.Uint32
	// until is when the sleep ends by itself; set before sleeping.
	until atomic.Int64
	// posted are the sources without a descriptor that have an event.
	posted postedList
	// timers are the Timers that are set.
	timers timers
	// adopted are those that are to be closed with the Poll: under table.mu.
	adopted map[io.Closer]struct{}
	// parker is how to wait without a thread; nil for Block. flusher and edgeEmulator are
	// the backend if it wants to be told.
	parker       *parker
	flusher      backend.Flusher
	edgeEmulator backend.EdgeEmulator

	// What follows belongs to the waiter, who has the seat.

	idle        bool            // the last park found nothing at its first look: see wait
	ownFirst    bool            // who fills the batch first, in turn: see gather
	timersFirst bool            // the same of takeOwn
	crowded     bool            // the last gather may have left something behind
	ctx         context.Context // of the call in progress
	ctxDone     <-chan struct{} // what ctxStop ends the subscription to
	ctxStop     func() bool
}

// The values of Poll.sleeping.
const (
	awake   = iota
	parked  // on the runtime's poller: ended by a deadline in the past
	blocked // in the kernel: ended by the backend's Wake
)

// shortWait is the timeout below which parking is too coarse: the runtime's
// timers count in milliseconds, a kernel's wait in nanoseconds.
const shortWait = 2 * time.Millisecond

// New opens the event queue of this platform: epoll on Linux, or io_uring if the
// program is built with the tag iouring; kqueue on macOS and the BSDs; a completion
// port on Windows; poll(2) on other Unixes, and on all of them with the tag pollfd.
// Where there is none, the error is errors.ErrUnsupported and names
// the system; when the system refuses (no descriptors left, say), the error tells
// the likely cause.
func New(opts ...Option) (*Poll, error) {
	b, err := newDefaultBackend()
	if err != nil {
		return nil, &OpError{"open", "the event queue", err}
	}
	return NewWith(b, opts...)
}

// NewWith opens a Poll on a backend of the caller's choice, one of the packages
// below backend or an own one: NewWith(epoll.New()). The Poll opens it and owns
// it; a backend serves one Poll.
func NewWith(b backend.Backend, opts ...Option) (*Poll, error) {
	if nilvalue.Is(b) {
		return nil, &OpError{"open", "a nil backend", fs.ErrInvalid}
	}
	var o options
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	if o.strategy > Block {
		return nil, &OpError{"open", "the " + b.Name() + " queue", fmt.Errorf("there is no strategy %d: %w", o.strategy, fs.ErrInvalid)}
	}
	p := &Poll{be: b, log: o.log}
	p.timers.next.Store(int64(never))
	if err := b.Open(backend.Config{Blocking: o.strategy == Block}); err != nil {
		return nil, &OpError{"open", p.name(), err}
	}
	p.caps = b.Capabilities()
	p.flusher, _ = b.(backend.Flusher)
	p.edgeEmulator, _ = b.(backend.EdgeEmulator)
	p.own.poll = p
	p.trace = p.log != nil && p.log.IsTrace()
	if o.strategy == Park {
		var err error
		if p.parker, err = newParker(b, p.gatherParked); err != nil {
			return nil, &OpError{"open", p.name(), errors.Join(err, b.Close())}
		}
	}
	if p.log != nil {
		p.log.Debug("opened", "backend", b.Name(), "strategy", p.Strategy())
	}
	return p, nil
}

// Registry returns the Registry to register sources with. It is the Poll's own
// and the same at each call; who wants one to close gets it from TryClone.
func (p *Poll) Registry() *Registry { return &p.own }

// Backend returns the name of the queue: "epoll", "io_uring", "kqueue",
// "pollfd", "iocp".
func (p *Poll) Backend() string {
	if p.be == nil {
		return "absent"
	}
	return p.be.Name()
}

// Capabilities returns what the queue can do here: the interests and modes it
// takes, and the resolution of its timeouts.
func (p *Poll) Capabilities() backend.Capabilities { return p.caps }

// Strategy returns how this Poll waits: Block also where Park was asked for and
// the platform has no way to park.
func (p *Poll) Strategy() Strategy {
	if p.parker == nil || p.parker.unusable.Load() {
		return Block
	}
	return Park
}

// Poll waits for events and stores them in events, which it empties first. It
// returns nil when there is at least one, or, with none, when the timeout is
// over: never early, and late by what the system's timers are late. Zero does
// not wait and collects what is ready; a negative timeout ([Forever]) has no
// end: who computes what is left until a deadline takes care that it does not
// become negative, max(time.Until(deadline), 0). Signals do not disturb it.
//
// At most events.Cap() events come at once; the others come with the next
// Polls, in turn, so that none starves.
//
// While one goroutine is in Poll, another gets ErrBusy. On a queue that belongs to
// one thread, a Poll on another thread is ErrWrongThread. When the Poll is closed,
// also while it waits, it returns ErrClosed. After an error events is empty,
// except that ErrBusy leaves it alone.
func (p *Poll) Poll(events *Events, timeout time.Duration) error {
	return p.poll(context.Background(), events, timeout)
}

// PollContext is Poll without a timeout, ended by ctx: it then returns
// ctx.Err(), at once if ctx is done before. The Poll stays subscribed to ctx until
// it is given another one or closed, so that calls with one and the same ctx cost
// nothing more. No call starts a goroutine; the first one with a Context of
// unknown make does, inside package context (see [context.AfterFunc]).
func (p *Poll) PollContext(ctx context.Context, events *Events) error {
	if ctx == nil {
		return &OpError{"poll", p.name(), fmt.Errorf("ctx is nil: %w", fs.ErrInvalid)}
	}
	return p.poll(ctx, events, Forever)
}

func (p *Poll) poll(ctx context.Context, events *Events, timeout time.Duration) error {
	if p.be == nil {
		return &OpError{"poll", "a Poll", errMadeByHand}
	}
	if events == nil || len(events.buf) == 0 {
		return &OpError{"poll", p.name(), fmt.Errorf("events has no room: make it with NewEvents: %w", fs.ErrInvalid)}
	}
	if !p.seat.TryLock() {
		err := ErrBusy
		if p.closed.Load() {
			err = ErrClosed
		}
		return &OpError{"poll", p.name(), err}
	}
	defer p.seat.Unlock()
	events.n, events.table = 0, &p.table
	events.batch++
	if p.closed.Load() {
		return &OpError{"poll", p.name(), ErrClosed}
	}
	if err := p.watch(ctx); err != nil {
		return err
	}
	return p.wait(events, timeout)
}

// wait is what waiting means: gather what is there; with nothing, sleep until
// something may be, and look again.
//
// Parking begins with a look of its own. Where the last one found nothing, the
// next one will mostly not either, and the first look is saved: a system call of
// each wait of a loop that is waiting more than working. A queue of one thread
// takes its changes along with a wait, and is not looked at before.
func (p *Poll) wait(events *Events, timeout time.Duration) error {
	if timeout == 0 || !p.caps.OneThread && (timeout > 0 || !p.idle) {
		if err := p.gather(events, 0); err != nil || events.n > 0 || timeout == 0 {
			return err
		}
	}
	deadline := deadlineAfter(timeout)
	for {
		if err := p.sleep(events, deadline); err != nil || events.n > 0 {
			return err
		}
		if p.closed.Load() {
			return &OpError{"poll", p.name(), ErrClosed}
		}
		if err := p.ctx.Err(); err != nil {
			return err
		}
		over := timeLeft(deadline) <= 0
		if err := p.gather(events, 0); err != nil || events.n > 0 || over {
			return err
		}
	}
}

// gather fills events with what is ready: what the queue returns within
// timeout, and what this Poll has of its own. Each goes first in turn, so that with
// little room neither keeps the other out. Only a gather that does not wait can begin
// with its own: when it comes to waiting there was nothing. An interrupted system call
// is an early return, as any other: this is the home of EINTR.
func (p *Poll) gather(events *Events, timeout time.Duration) error {
	room := events.buf
	n := 0
	p.ownFirst = !p.ownFirst && timeout == 0
	if p.ownFirst {
		n = p.takeOwn(room)
	}
	p.crowded = true
	if n < len(room) {
		m, err := p.be.Wait(room[n:], timeout)
		if err != nil && err != syscall.EINTR && n == 0 { // else: it will come again
			return &OpError{"poll", p.name(), err}
		}
		n += m
		p.crowded = n == len(room) || err != nil
	}
	if !p.ownFirst && n < len(room) {
		n += p.takeOwn(room[n:])
	}
	events.n = p.table.keep(room[:n])
	return nil
}

// takeOwn moves events to room, which is there, that the queue knows nothing of: those
// posted, and those of timers that have expired. They, too, take turns.
func (p *Poll) takeOwn(room []backend.Event) (n int) {
	if p.timers.none() { // and no look at the clock
		return p.posted.take(room, &p.table)
	}
	if p.timersFirst = !p.timersFirst; p.timersFirst {
		n = p.timers.take(room, now())
		return n + p.posted.take(room[n:], &p.table)
	}
	n = p.posted.take(room, &p.table)
	return n + p.timers.take(room[n:], now())
}

// sleep waits until there are events, which it gathers, until a timer expires,
// until somebody interrupts, or until the deadline; or for less.
func (p *Poll) sleep(events *Events, deadline time.Duration) error {
	until := min(deadline, p.timers.earliest())
	left := timeLeft(until)
	if left <= 0 {
		return nil
	}
	p.until.Store(int64(until))
	defer p.sleeping.Store(awake)
	if p.parker != nil && left >= shortWait && p.parker.prepare(until, left) {
		p.sleeping.Store(parked)
		if p.mustStayAwake() {
			return nil
		}
		var err error
		p.idle, err = p.parker.park(events)
		return err
	}
	p.sleeping.Store(blocked)
	if p.mustStayAwake() {
		return nil
	}
	if until == never {
		left = Forever
	}
	return p.gather(events, left)
}

// gatherParked is gather for a goroutine about to park, and says whether it
// should rather not: nothing will wake it for what is ready already. That may
// be so also when nothing is left of what was gathered: when the batch was full
// and all of it stale, or the look was interrupted.
func (p *Poll) gatherParked(events *Events) (stay bool, err error) {
	err = p.gather(events, 0)
	stay = err != nil || events.n > 0 || p.crowded
	if !stay && p.flusher != nil {
		if err = p.flusher.Flush(); err != nil {
			return true, &OpError{"poll", p.name(), err}
		}
	}
	return stay, err
}

// mustStayAwake looks for what may have happened between the last look and the
// announcement of sleep.
func (p *Poll) mustStayAwake() bool {
	return !p.posted.empty(&p.table) || p.timers.next.Load() < p.until.Load() || p.closed.Load() || p.ctx.Err() != nil
}

// shorten ends the sleep of the waiter if it would last beyond when, which a timer
// has just been set to. Any goroutine, after that was stored in timers.next.
func (p *Poll) shorten(when time.Duration) error {
	if int64(when) >= p.until.Load() {
		return nil
	}
	return p.interrupt()
}

// interrupt ends the sleep of the waiter, if it sleeps. It may be called from
// any goroutine, after the reason to be awake was stored.
func (p *Poll) interrupt() error {
	how := p.sleeping.Load()
	if how == awake || !p.sleeping.CompareAndSwap(how, awake) {
		return nil // it will look by itself, or somebody else is waking it
	}
	if how == parked {
		p.parker.wake()
		return nil
	}
	// Under the lock: the sleeper may just have ended by itself, and the Poll
	// been closed.
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.released {
		return nil
	}
	return p.be.Wake()
}

// watch makes ctx the one that ends this call, and subscribes to it. The
// subscription is kept for as long as no other ctx comes, told by its Done
// channel, because making one allocates.
func (p *Poll) watch(ctx context.Context) error {
	p.ctx = ctx
	if done := ctx.Done(); done != nil && done != p.ctxDone {
		p.unwatch()
		p.ctxDone = done
		p.ctxStop = context.AfterFunc(ctx, func() { _ = p.interrupt() })
	}
	return ctx.Err()
}

// unwatch ends the subscription.
func (p *Poll) unwatch() {
	if p.ctxStop != nil {
		p.ctxStop()
	}
	p.ctxDone, p.ctxStop = nil, nil
}

// Close closes the queue and releases its descriptors. A Poll that waits
// returns ErrClosed first: Close waits for that. Afterwards every method
// answers ErrClosed, those of clones of the Registry, of Wakers and Timers too, and
// of Mailboxes (but what is in them can be received). Signals and Processes are
// closed with it. The sources stay open; they are the caller's, and so are events
// that a loop has in hand. Closing again does nothing.
func (p *Poll) Close() error {
	if p.be == nil {
		return &OpError{"close", "a Poll", errMadeByHand}
	}
	p.table.mu.Lock()
	p.closed.Store(true)
	p.table.mu.Unlock()
	wakeErr := p.interrupt()

	p.seat.Lock() // waits for the waiter, and for another Close
	released, err := p.release()
	err = errors.Join(err, p.closeAdopted())
	p.seat.Unlock()
	if !released {
		return nil
	}
	if p.log != nil {
		p.log.Debug("closed", "backend", p.be.Name(), "error", err)
	}
	if err := errors.Join(wakeErr, err); err != nil {
		return &OpError{"close", p.name(), err}
	}
	return nil
}

// release gives back what the Poll holds, the first time.
func (p *Poll) release() (first bool, err error) {
	p.unwatch()
	p.ctx = nil
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.released {
		return false, nil
	}
	p.released = true
	if p.parker != nil {
		err = p.parker.close()
	}
	return true, errors.Join(err, p.be.Close())
}

// name is what errors call this Poll.
func (p *Poll) name() string { return "the " + p.Backend() + " queue" }

// Deadlines are points on the monotonic clock, as durations since start.
var start = time.Now()

func now() time.Duration { return time.Since(start) }

// never is the deadline of a wait without a timeout; and of one that ends in
// more than 292 years.
const never time.Duration = math.MaxInt64

func deadlineAfter(timeout time.Duration) time.Duration {
	if timeout < 0 {
		return never
	}
	t := now()
	if timeout > never-t {
		return never
	}
	return t + timeout
}

// timeLeft is how long it is until the deadline; never is never nearer.
func timeLeft(deadline time.Duration) time.Duration {
	if deadline == never {
		return never
	}
	return deadline - now()
}
