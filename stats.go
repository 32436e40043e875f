package epore

import (
	"fmt"
	"sync"
	"time"

	"github.com/epore/epore/internal/slots"
)

// Stats counts what a Poll has done since it was opened; see [Poll.Stats].
type Stats struct {
	// Polls is the number of calls of Poll and PollContext that have returned. It leaves
	// out those that failed with ErrBusy, because of their arguments, or because the Poll
	// or ctx had ended before.
	Polls uint64
	// Events is the number of events that they delivered.
	Events uint64
	// FullBatches is the number of Polls that filled their Events. If it grows as fast as
	// Polls, a larger buffer saves system calls.
	FullBatches uint64
	// Stale is the number of events that were dropped because their registration had ended
	// or had not asked for them. If it grows while Polls does not, a source was probably
	// closed without Deregister.
	Stale uint64
	// Sleeps is the number of times that the Poll had nothing to deliver and began to wait.
	// A source that becomes ready at that moment ends the wait at once. The waits of a
	// simulated queue (backend.Quiescer) are not counted, nor is their time.
	Sleeps uint64
	// Wakeups is the number of times that another goroutine ended such a wait.
	Wakeups uint64
	// Waiting is the time spent in these waits. The wait in progress counts when it ends.
	Waiting time.Duration
	// Outside is the time between these waits: handling events, and collecting those that
	// are ready without a wait.
	Outside time.Duration
	// LongestOutside is the longest time between two consecutive waits. It is long if a
	// handler takes long, or if so many events are ready that the Poll never waits.
	LongestOutside time.Duration
	// Registrations is the number of sources that are registered now. Wakers, Mailboxes,
	// Timers, Signals and Processes count.
	Registrations int
	// Timers is the number of Timers that are set now.
	Timers int
}

// Stats returns the counters of the Poll. Any goroutine may call it at any time, also after
// Close. It does not wait for the goroutine that polls. What a Poll in progress has counted
// is included once the Poll sleeps or returns. Stats of the zero Poll are zero.
func (p *Poll) Stats() Stats {
	p.slots.Lock()
	registrations := p.slots.Live()
	if p.closed.Load() {
		registrations = 0
	}
	p.slots.Unlock()
	p.counters.Lock()
	s := p.counters.stats
	p.counters.Unlock()
	s.Wakeups = p.wakeups.Load()
	s.Registrations = registrations
	if registrations > 0 {
		s.Timers = p.timers.Len()
	}
	return s
}

// SourceInfo describes one registration; see [Poll.Sources].
type SourceInfo struct {
	Token    Token
	Interest Interest
	// FD is the descriptor, or -1 for a source without one.
	FD int
	// Kind is the type of the source if the Poll keeps the source alive, as in
	// "*net.TCPConn". It is "descriptor" for an FD and for the sockets of package socket,
	// and "Waker", "Mailbox", "Timer", "Signal" or "Process" for those.
	Kind string
}

// String describes the registration for people: "token 7: *net.TCPConn, fd 5, Readable".
func (s SourceInfo) String() string {
	if s.FD < 0 {
		return fmt.Sprintf("token %d: %s", uint64(s.Token), s.Kind)
	}
	return fmt.Sprintf("token %d: %s, fd %d, %v", uint64(s.Token), s.Kind, s.FD, s.Interest)
}

// Sources returns what is registered, for the question why a loop does not hear of a source.
// A descriptor that was closed without Deregister is listed until its number is registered
// again. Any goroutine may call Sources at any time. It holds up calls of the Registry while
// it copies, so it is for people rather than for each round of a loop. After Close it
// returns nil.
func (p *Poll) Sources() []SourceInfo {
	p.slots.Lock()
	defer p.slots.Unlock()
	if p.closed.Load() {
		return nil
	}
	all := make([]SourceInfo, 0, p.slots.Live())
	for i := range uint32(p.slots.Used()) {
		h, in, isProcess, ok := p.slots.Registered(i)
		if !ok {
			continue
		}
		s := SourceInfo{Token: Token(p.slots.TokenIn(i)), Interest: in, FD: int(h), Kind: "descriptor"}
		switch {
		case h == slots.NoHandle:
			s.FD, s.Kind = -1, p.localKinds[i].String()
		case isProcess:
			s.Kind = localProcess.String()
		case p.keepsSources:
			if keep := p.sources.Get(uintptr(i)); keep != nil && *keep != nil {
				s.Kind = fmt.Sprintf("%T", *keep)
			}
		}
		all = append(all, s)
	}
	return all
}

// localKind says what is behind a registration without a handle.
type localKind uint8

const (
	localWaker localKind = iota
	localMailbox
	localTimer
	localSignal
	localProcess
)

func (k localKind) String() string {
	return [...]string{"Waker", "Mailbox", "Timer", "Signal", "Process"}[k]
}

// setLocalKind notes what is behind slot i. It requires the table's lock.
func (p *Poll) setLocalKind(i uint32, k localKind) {
	for int(i) >= len(p.localKinds) {
		p.localKinds = append(p.localKinds, 0)
	}
	p.localKinds[i] = k
}

// counters are the counters of the waiter. It adds to them once for each Poll and once for
// each sleep, so one uncontended lock costs less than an atomic operation for each counter.
type counters struct {
	sync.Mutex
	stats Stats

	// What follows belongs to the waiter.

	stale   uint64        // not yet in stats
	outside time.Duration // when the last sleep ended, or the Poll was opened
}

// flush adds what the waiter has counted by itself. It requires the lock.
func (c *counters) flush() {
	c.stats.Stale += c.stale
	c.stale = 0
}

// polled counts a Poll with n events, and room for so many.
func (c *counters) polled(n, room int) {
	c.Lock()
	c.flush()
	c.stats.Polls++
	c.stats.Events += uint64(n)
	if n == room {
		c.stats.FullBatches++
	}
	c.Unlock()
}

// asleep counts the beginning of a sleep, which it returns.
func (c *counters) asleep() (since time.Duration) {
	since = now()
	outside := since - c.outside
	c.Lock()
	c.flush()
	c.stats.Sleeps++
	c.stats.Outside += outside
	c.stats.LongestOutside = max(c.stats.LongestOutside, outside)
	c.Unlock()
	return since
}

// awake counts the end of the sleep that began at since.
func (c *counters) awake(since time.Duration) {
	c.outside = now()
	c.Lock()
	c.stats.Waiting += c.outside - since
	c.Unlock()
}
