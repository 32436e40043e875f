package epore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fdtable"
	"github.com/epore/epore/internal/nilvalue"
	"github.com/epore/epore/internal/slots"
	"github.com/epore/epore/internal/system"
	"github.com/epore/epore/internal/timerheap"
)

// Forever is the timeout of a Poll that waits until something happens. Every negative
// timeout means the same.
const Forever time.Duration = -1

// Poll is an event queue. Sources are registered with its [Registry]; its method Poll
// waits for their events.
//
// One goroutine at a time calls Poll or PollContext. All other methods may be called from
// any goroutine at any time. A Poll holds descriptors, so Close it. Every method of the
// zero Poll returns an error.
type Poll struct {
	be       backend.Backend
	caps     backend.Capabilities
	slots    slots.Table
	registry Registry // the Registry that the Poll lends
	log      hclog.Logger
	trace    bool
	leak     runtime.Cleanup // tells log about a Poll that was never closed

	// sources are the registered sources that the table keeps alive, by slot. Sockets of
	// package socket and FDs are not in it. Under slots' lock.
	sources      fdtable.Table[Source]
	keepsSources bool // there was ever one

	// pollMu is held by the goroutine that polls: the single waiter.
	pollMu sync.Mutex
	// pollFree tells Close that pollMu is free. Waiting for a Cond is durable in a
	// testing/synctest bubble, waiting for a Mutex is not.
	pollFree sync.Cond
	// closed is set once, under slots' lock. Then, once pollMu is free, the backend is
	// closed and released is set, under slots' lock, too.
	closed   atomic.Bool
	released bool
	// sleeping says how the waiter sleeps, so that interrupt knows how to wake it. The
	// waiter stores it, then looks once more for a reason to stay awake (mustStayAwake).
	// A goroutine that has a reason stores that, then looks at sleeping. One of the two
	// sees the other, so no wake-up is lost.
	sleeping atomic.Uint32
	// until is when the sleep ends by itself. It is set before sleeping.
	until atomic.Int64
	// local holds the sources unknown to the kernel that have an event.
	local localQueue
	// timers holds the Timers that are set.
	timers timerheap.Heap
	// hooks are called before the Poll looks. hooked says that the last gather called one.
	hooks  hooks
	hooked bool // of the waiter
	// closers are closed with the Poll. Under slots' lock.
	closers map[io.Closer]struct{}
	// crowd decides when many registrations make it worth detaching the parker.
	crowd crowd
	// parker waits without a thread; nil for Block. edgeEmulator is the backend if it
	// implements that.
	parker       *parker
	edgeEmulator backend.EdgeEmulator
	// quiescer is the backend if it implements that.
	quiescer backend.Quiescer
	// inspection finds sources that report a thing only once.
	inspection inspection
	// localKinds says what the sources without a handle are, by slot. Under slots' lock.
	localKinds []localKind
	// counters are for Stats, as is wakeups, which counts the sleeps that another
	// goroutine ended.
	counters counters
	wakeups  atomic.Uint64

	// The fields below belong to the waiter, which holds pollMu.

	thread      int  // see lockThread
	gathers     uint // the number of gathers
	idle        bool // the last park found nothing at its first look: see wait
	localFirst  bool // whether local sources fill the batch first, in turn: see gather
	timersFirst bool // the same for timers within takeLocal
	mayHaveMore bool // the last gather may have left something behind
	// tookInspected says that the batch has events of takeInspected.
	tookInspected bool
	ctx           context.Context // of the call in progress
	ctxDone       <-chan struct{} // of the context that ctxStop unsubscribes from
	ctxStop       func() bool
}

// The values of Poll.sleeping.
const (
	awake   = iota
	parked  // on the runtime's poller: woken by a deadline in the past
	blocked // in the kernel: woken by the backend's Wake
)

// shortWait is the timeout below which parking is too coarse: the runtime's timers count
// in milliseconds, a kernel's wait in nanoseconds.
const shortWait = 2 * time.Millisecond

// New opens the event queue of this platform: epoll on Linux, or io_uring if the program
// is built with the tag iouring; kqueue on macOS and the BSDs; a completion port on
// Windows; poll(2) on other Unixes, and on every Unix with the tag pollfd.
//
// On a platform without a queue New fails with errors.ErrUnsupported and names the
// system. If the system refuses, for example because no descriptors are left, the error
// names the likely cause.
func New(opts ...Option) (*Poll, error) {
	b, err := newDefaultBackend()
	if err != nil {
		return nil, &OpError{"open", "the event queue", err}
	}
	return NewWith(b, opts...)
}

// NewWith opens a Poll on a backend of the caller's choice: one of the packages below
// backend, as in NewWith(epoll.New()), or one that the caller wrote. The Poll opens the
// backend and owns it. A backend serves one Poll: NewWith fails with fs.ErrExist if b is in
// use.
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
		return nil, &OpError{"open", "the " + b.Name() + " queue", fmt.Errorf("unknown strategy %d: %w", o.strategy, fs.ErrInvalid)}
	}
	p := &Poll{be: b, log: o.log}
	p.pollFree.L = new(sync.Mutex)
	p.timers.Init(&p.slots)
	if err := open(b); err != nil {
		return nil, &OpError{"open", p.name(), err}
	}
	p.caps = b.Capabilities()
	p.edgeEmulator, _ = b.(backend.EdgeEmulator)
	p.quiescer, _ = b.(backend.Quiescer)
	p.inspection.queue, _ = b.(backend.Inspector)
	p.registry.poll = p
	p.counters.outside = now()
	p.trace = p.log != nil && p.log.IsTrace()
	if o.strategy == Park {
		var err error
		if p.parker, err = newParker(b, p.log, p.gatherParked); err != nil {
			return nil, &OpError{"open", p.name(), errors.Join(err, closeBackend(b))}
		}
	}
	if p.log != nil {
		p.log.Debug("opened", "backend", b.Name(), "strategy", p.Strategy())
		p.leak = runtime.AddCleanup(p, logLeak, leaked{o.log, b.Name()})
	}
	return p, nil
}

// inUse holds the backends of open Polls. Backends rely on being opened once.
var inUse sync.Map

func open(b backend.Backend) error {
	if !reflect.ValueOf(b).Comparable() {
		return b.Open()
	}
	if _, taken := inUse.LoadOrStore(b, nil); taken {
		return fmt.Errorf("this backend already serves a Poll: create one for each Poll: %w", fs.ErrExist)
	}
	err := b.Open()
	if err != nil {
		inUse.Delete(b)
	}
	return err
}

func closeBackend(b backend.Backend) error {
	if reflect.ValueOf(b).Comparable() {
		defer inUse.Delete(b)
	}
	return b.Close()
}

// leaked is what logLeak needs of a Poll that was collected.
type leaked struct {
	log     hclog.Logger
	backend string
}

func logLeak(l leaked) {
	l.log.Warn("a Poll was garbage collected without being closed: its descriptors leak, call Close", "backend", l.backend)
}

// Registry returns the Registry to register sources with. It belongs to the Poll and is
// the same at each call; it cannot be closed. [Registry.TryClone] returns one that can.
func (p *Poll) Registry() *Registry { return &p.registry }

// Backend returns the name of the queue: "epoll", "io_uring", "kqueue", "pollfd" or
// "iocp".
func (p *Poll) Backend() string {
	if p.be == nil {
		return "absent"
	}
	return p.be.Name()
}

// Capabilities returns what the queue supports on this system: interests and modes, and
// the resolution of its timeouts.
func (p *Poll) Capabilities() Capabilities { return p.caps }

// Strategy returns how this Poll waits. It is Block, even where Park was asked for, if the
// platform cannot park, and while the system refuses to let this Poll park.
func (p *Poll) Strategy() Strategy {
	if p.parker == nil || p.parker.unusable.Load() {
		return Block
	}
	return Park
}

// Poll waits for events and stores them in events, which it empties first. It returns nil
// when there is at least one event, or, without events, when the timeout has passed. It
// never returns early. It may return late, by the granularity of the system's timers. A
// zero timeout collects what is ready without waiting. A negative timeout ([Forever])
// waits indefinitely; when you compute the time left until a deadline, clamp it:
// max(time.Until(deadline), 0). Signals do not end the wait.
//
// Poll returns at most events.Cap() events. The others come with the next Polls, in turn,
// so that no source starves.
//
// While one goroutine is in Poll, a call from another fails with ErrBusy. When the Poll is
// closed, even during the wait, Poll fails with ErrClosed. After an error events is empty,
// except that ErrBusy leaves it as it was.
//
// Some queues belong to one thread (Capabilities().OneThread). There the first Poll locks
// its goroutine to its thread, as runtime.LockOSThread does, and every later Poll must come
// from the same goroutine: a call from another fails with ErrWrongThread. The lock ends
// when that goroutine closes the Poll, or when its Poll fails with ErrClosed. If the
// goroutine ends first, its thread ends with it, and no goroutine can poll any more.
//
// In a testing/synctest bubble, time on a real queue stands still while Poll waits, because
// the wait is not durable there. A Poll on backendtest.NewFake uses virtual time.
func (p *Poll) Poll(events *Events, timeout time.Duration) error {
	return p.poll(context.Background(), events, timeout)
}

// PollContext is like Poll with no timeout, and also ends when ctx is done. It then
// returns ctx.Err(); if ctx is done already, it returns at once.
//
// The Poll stays subscribed to ctx until PollContext is called with another one or the
// Poll is closed, so further calls with the same ctx cost nothing extra. PollContext starts
// no goroutine, except that package context starts one for a Context of a type that it
// does not know (see [context.AfterFunc]).
func (p *Poll) PollContext(ctx context.Context, events *Events) error {
	return p.poll(ctx, events, Forever)
}

func (p *Poll) poll(ctx context.Context, events *Events, timeout time.Duration) error {
	if events == nil || len(events.buf) == 0 {
		return &OpError{"poll", p.name(), fmt.Errorf("events has no room: create it with NewEvents: %w", fs.ErrInvalid)}
	}
	if p.be == nil {
		events.empty(&p.slots)
		return &OpError{"poll", "a Poll", errZeroValue}
	}
	if !p.pollMu.TryLock() {
		err := ErrBusy
		if p.closed.Load() {
			err = ErrClosed
		}
		return &OpError{"poll", p.name(), err}
	}
	defer p.freePollMu()
	events.empty(&p.slots)
	if p.closed.Load() {
		p.unlockThread()
		return &OpError{"poll", p.name(), ErrClosed}
	}
	if ctx == nil {
		return &OpError{"poll", p.name(), fmt.Errorf("ctx is nil: %w", fs.ErrInvalid)}
	}
	if err := p.watch(ctx); err != nil {
		return err
	}
	if p.crowd.detach.Load() {
		p.crowd.detach.Store(false)
		p.parker.detach()
	}
	p.lockThread()
	var err error
	if p.quiescer != nil {
		err = p.waitQuiet(events, timeout)
	} else {
		err = p.wait(events, timeout)
	}
	p.counters.polled(events.n, len(events.buf))
	if p.parker != nil && p.inspection.once.Load() > 0 {
		p.parker.detach() // before the loop looks at the sources; not while it is parked
	}
	if p.closed.Load() {
		p.unlockThread()
	}
	return err
}

// freePollMu unlocks pollMu. Close sets closed before it tries to take pollMu, so either
// Close takes it, or the holder sees closed here.
func (p *Poll) freePollMu() {
	p.pollMu.Unlock()
	if p.closed.Load() {
		p.pollFree.L.Lock()
		p.pollFree.Broadcast()
		p.pollFree.L.Unlock()
	}
}

// takePollMu locks pollMu for Close: it waits for the waiter, and for another Close.
func (p *Poll) takePollMu() {
	p.pollFree.L.Lock()
	defer p.pollFree.L.Unlock()
	for !p.pollMu.TryLock() {
		p.pollFree.Wait()
	}
}

// lockThread locks the goroutine of the first Poll to its thread if the queue belongs to
// one thread.
func (p *Poll) lockThread() {
	if p.caps.OneThread && p.thread == 0 {
		runtime.LockOSThread()
		p.thread = system.ThreadID()
	}
}

// unlockThread undoes lockThread if the calling goroutine is the one that is locked: no
// other goroutine runs on its thread.
func (p *Poll) unlockThread() {
	if p.thread != 0 && p.thread == system.ThreadID() {
		p.thread = 0
		runtime.UnlockOSThread()
	}
}

// wait defines what waiting means: gather what is ready; if that is nothing, sleep until
// something may be ready, and look again.
//
// Parking begins with a look of its own. If the last park's look found nothing, the next
// one mostly will not either, and the look before it is saved: one system call for each
// wait of a loop that waits more than it works.
func (p *Poll) wait(events *Events, timeout time.Duration) error {
	if timeout >= 0 || !p.idle {
		if err := p.gather(events, 0); err != nil || events.n > 0 || timeout == 0 {
			return err
		}
	}
	deadline := deadlineAfter(timeout)
	for {
		since := p.counters.asleep()
		err := p.sleep(events, deadline)
		p.counters.awake(since)
		if err != nil || events.n > 0 {
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

// waitQuiet is wait for a queue that is a Quiescer. It looks at nothing before the queue
// says that all others are at rest; otherwise the look would race with senders.
func (p *Poll) waitQuiet(events *Events, timeout time.Duration) error {
	deadline := deadlineAfter(timeout)
	for {
		until := min(deadline, p.timers.Earliest())
		left := Forever
		if until != never {
			left = max(timeLeft(until), 0)
		}
		p.until.Store(int64(until))
		p.sleeping.Store(blocked)
		err := p.quiescer.WaitQuiet(left, p.mustStayAwake)
		p.sleeping.Store(awake)
		if err != nil {
			return &OpError{"poll", p.name(), err}
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

// gather fills events with what is ready: what the queue returns within timeout, and
// what local sources and timers have. Queue and local sources go first in turn, so that
// neither keeps the other out when there is little room. Only a gather that does not wait
// can begin with the local sources: before a wait, they had nothing. An interrupted system
// call counts as an early return; this is the one place that handles EINTR.
func (p *Poll) gather(events *Events, timeout time.Duration) error {
	room := events.buf
	n := 0
	p.tookInspected = false
	if p.gathers++; p.gathers%64 == 0 && p.inspection.due.Load() {
		p.inspectDue() // of a Poll that is never about to sleep
	}
	// A wait must follow its announcement at once, so no Hook is called before it.
	p.hooked = timeout == 0 && p.hooks.list.Load() != nil && p.runRequested()
	// On the wrong thread the queue goes first, and refuses: nothing is taken.
	p.localFirst = !p.localFirst && timeout == 0 && (p.thread == 0 || p.thread == system.ThreadID())
	if p.localFirst {
		n = p.takeLocal(room)
	}
	locals, ran := n, false
	p.mayHaveMore = true
	if n < len(room) {
		m, err := p.be.Wait(room[n:], timeout)
		if err != nil && err != syscall.EINTR && n == 0 { // otherwise the error comes again
			return &OpError{"poll", p.name(), err}
		}
		p.mayHaveMore = n+m == len(room) || err != nil
		if m > 0 && p.hooks.hasSources() {
			m, ran = p.runReady(room[n : n+m])
			p.hooked = p.hooked || ran
		}
		n += m
	}
	// A second time only if the first gave nothing: no event comes twice in a batch.
	if (!p.localFirst || ran && locals == 0) && n < len(room) {
		n += p.takeLocal(room[n:])
	}
	if p.tookInspected {
		n = mergeRepeated(room[:n])
	}
	events.n = p.slots.Keep(room[:n])
	p.counters.stale += uint64(n - events.n)
	return nil
}

// takeLocal moves events that the queue does not know to room, which is not empty: those
// of posted sources, and those of expired timers. These two take turns as well.
func (p *Poll) takeLocal(room []backend.Event) (n int) {
	if p.inspection.ready.Load() > 0 {
		n = p.takeInspected(room)
	}
	if p.timers.None() { // without reading the clock
		return n + p.local.take(room[n:], &p.slots)
	}
	if p.timersFirst = !p.timersFirst; p.timersFirst {
		n += p.timers.Take(room[n:], now())
		return n + p.local.take(room[n:], &p.slots)
	}
	n += p.local.take(room[n:], &p.slots)
	return n + p.timers.Take(room[n:], now())
}

// sleep waits until there are events, which it gathers, until a timer expires, until
// another goroutine interrupts, or until the deadline. It may return earlier.
func (p *Poll) sleep(events *Events, deadline time.Duration) error {
	if p.inspection.due.Load() {
		if p.inspectDue(); p.inspection.ready.Load() > 0 {
			return nil
		}
	}
	until := min(deadline, p.timers.Earliest())
	left := timeLeft(until)
	if left <= 0 {
		return nil
	}
	mayPark := p.parker != nil && left >= shortWait
	if mayPark && p.inspection.once.Load() > 0 {
		mayPark = false
		p.parker.detach()
	}
	p.until.Store(int64(until))
	defer p.sleeping.Store(awake)
	if mayPark {
		if p.parker.prepare(until, left) {
			p.sleeping.Store(parked)
			if p.mustStayAwake() {
				return nil
			}
			var err error
			p.crowd.parks.Add(1)
			p.idle, err = p.parker.park(events)
			return err
		}
		// Block, but no longer than until parking is to be tried again.
		if until = min(until, p.parker.retryAt); until != never {
			left = max(timeLeft(until), shortWait)
		}
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

// gatherParked is gather for a goroutine that is about to park. It also reports whether
// the goroutine must not park, because nothing would wake it for what is ready already.
// That can be so even if no event is left of what was gathered: when the batch was full and
// all of it stale, when the look was interrupted, or when a Hook was called.
func (p *Poll) gatherParked(events *Events) (stay bool, err error) {
	err = p.gather(events, 0)
	return err != nil || events.n > 0 || p.mayHaveMore || p.hooked, err
}

// mustStayAwake looks for what may have happened between the last look and the
// announcement of the sleep.
func (p *Poll) mustStayAwake() bool {
	return p.inspection.due.Load() || p.inspection.ready.Load() > 0 || p.hooks.requested() ||
		!p.local.empty(&p.slots) || p.timers.Before(time.Duration(p.until.Load())) || p.closed.Load() || p.ctx.Err() != nil
}

// shorten wakes the waiter if it would sleep beyond when, to which a timer has just been
// set. Any goroutine may call it, after the timer is in the heap.
func (p *Poll) shorten(when time.Duration) error {
	if int64(when) >= p.until.Load() {
		return nil
	}
	return p.interrupt()
}

// interrupt wakes the waiter if it sleeps. Any goroutine may call it, after it has stored
// the reason to be awake.
func (p *Poll) interrupt() error {
	if !p.wakeParked() {
		return nil
	}
	// Under the lock, because the sleep may just have ended by itself and the Poll may
	// have been closed.
	p.slots.Lock()
	defer p.slots.Unlock()
	return p.wakeBlocked()
}

// interruptLocked is interrupt for a goroutine that holds the table's lock.
func (p *Poll) interruptLocked() error {
	if !p.wakeParked() {
		return nil
	}
	return p.wakeBlocked()
}

// wakeParked wakes the waiter if it is parked, and reports whether it is blocked instead.
func (p *Poll) wakeParked() (isBlocked bool) {
	how := p.sleeping.Load()
	if how == awake || !p.sleeping.CompareAndSwap(how, awake) {
		return false // it will look by itself, or another goroutine is waking it
	}
	p.wakeups.Add(1)
	if how == parked {
		p.parker.wake()
		return false
	}
	return true
}

func (p *Poll) wakeBlocked() error {
	if p.released {
		return nil
	}
	return p.be.Wake()
}

// watch makes ctx the context that ends this call, and subscribes to it. The subscription
// is kept until another context comes, recognized by its Done channel, because subscribing
// allocates.
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

// Close closes the queue and releases its descriptors. If another goroutine waits in Poll,
// Close waits until that Poll has returned ErrClosed. Afterwards every method fails with
// ErrClosed, including those of clones of the Registry, of Wakers, Timers and Mailboxes
// (except that what is in a Mailbox can still be received). Signals, Processes and Hooks are
// closed with the Poll. Sources stay open, because they belong to the caller. A loop over
// the current batch still gets its events, except those of Signals and Processes. Closing
// again does nothing.
func (p *Poll) Close() error {
	if p.be == nil {
		return &OpError{"close", "a Poll", errZeroValue}
	}
	p.slots.Lock()
	p.closed.Store(true)
	p.slots.Unlock()
	wakeErr := p.interrupt()

	released, err := p.closeAll()
	if !released {
		return nil
	}
	if p.log != nil {
		p.leak.Stop()
		p.log.Debug("closed", "backend", p.be.Name(), "error", err)
	}
	if err := errors.Join(wakeErr, err); err != nil {
		return &OpError{"close", p.name(), err}
	}
	return nil
}

// closeAll closes everything once the waiter has returned. A function of a Hook may panic.
func (p *Poll) closeAll() (first bool, err error) {
	p.takePollMu()
	defer p.freePollMu()
	defer p.unlockThread()
	first, err = p.release()
	return first, errors.Join(err, p.closeClosers())
}

// release gives back what the Poll holds, the first time that it is called.
func (p *Poll) release() (first bool, err error) {
	p.unwatch()
	p.ctx = nil
	p.slots.Lock()
	defer p.slots.Unlock()
	if p.released {
		return false, nil
	}
	p.released = true
	p.sources = fdtable.Table[Source]{}
	if p.parker != nil {
		err = p.parker.close()
	}
	return true, errors.Join(err, closeBackend(p.be))
}

// name returns the name of this Poll in errors.
func (p *Poll) name() string { return "the " + p.Backend() + " queue" }

// Deadlines are points on the monotonic clock, as durations since start. In a
// testing/synctest bubble, whose clock begins in the year 2000, they are negative.
var start = time.Now()

func now() time.Duration { return time.Since(start) }

// never is the deadline of a wait without a timeout, and of one that would end beyond the
// clock's range, more than 292 years away.
const never = timerheap.Never

func deadlineAfter(timeout time.Duration) time.Duration {
	if timeout < 0 {
		return never
	}
	return timerheap.Plus(now(), timeout)
}

// timeLeft returns the time until the deadline. It is never if the deadline is.
func timeLeft(deadline time.Duration) time.Duration {
	if deadline == never {
		return never
	}
	t := now()
	if t < 0 && deadline > never+t {
		return never - 1 // the difference is beyond the range
	}
	return deadline - t
}
