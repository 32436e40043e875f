package epore

import "runtime"

// AwaitSleep returns when the waiter of p sleeps, or is about to sleep and will still look
// for reasons not to, or when over is closed.
func (p *Poll) AwaitSleep(over <-chan struct{}) {
	for !p.Sleeps() {
		select {
		case <-over:
			return
		default:
			runtime.Gosched()
		}
	}
}

// Sleeps reports whether the waiter of p sleeps or is about to.
func (p *Poll) Sleeps() bool { return p.sleeping.Load() != awake }

// Slots returns the number of slots of p that were ever in use at the same time.
func (p *Poll) Slots() int {
	p.slots.Lock()
	defer p.slots.Unlock()
	return p.slots.Used()
}

// HasArrived reports whether Received would yield something.
func (s *Signal) HasArrived() bool {
	for i := range s.arrived {
		if s.arrived[i].Load() {
			return true
		}
	}
	return false
}

// Deliver delivers every kind of signal of s, as os/signal does.
func (s *Signal) Deliver() {
	for i, c := range s.channels {
		c <- s.kinds[i]
	}
}

// AwaitPosted returns when n sources without a descriptor have an event.
func (p *Poll) AwaitPosted(n int32) {
	posted := func() (posted int32) {
		p.local.mu.Lock()
		defer p.local.mu.Unlock()
		for s := p.local.head; s != nil; s = s.next {
			posted++
		}
		return posted
	}
	for posted() < n {
		runtime.Gosched()
	}
}

// ProcessWays returns the number of ways to learn of the end of a process.
func ProcessWays() int { return len(processWays) }

// ProcessWaysFrom leaves out the first n ways to learn of the end of a process, until
// restored.
func ProcessWaysFrom(n int) (restore func()) {
	was := processWays
	processWays = was[n:]
	return func() { processWays = was }
}

// TimerRoom returns the number of entries that the timer heap of p has room for.
func (p *Poll) TimerRoom() int { return p.timers.Room() }

// Room returns the number of values that m has room for.
func (m *Mailbox[T]) Room() int {
	m.outMu.Lock()
	defer m.outMu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	return cap(m.in) + cap(m.out)
}
