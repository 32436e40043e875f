// Epore, on the queue that the build tags choose: epoll without a tag, iouring, pollfd. It
// uses only the public API, and the same loops for every queue. gear= is the Strategy:
// park, or block with the goroutine locked to its thread.
package main

import (
	"errors"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/bench/internal/measure"
)

// capacity is the maximum number of events of one wait, the same for all contestants.
const capacity = 256

func main() {
	measure.Main(measure.Measures{
		"event": event, "ready": ready, "register": register, "memory": memory, "wake": wake,
		"timers": timers, "threads": threads, "pingpong": pingPong, "allocs": allocs, "late": late,
	})
}

// open returns a Poll with the requested Strategy.
func open(a *measure.Args) (*epore.Poll, error) {
	strategy := epore.Park
	if a.Gear == "block" {
		strategy = epore.Block
		runtime.LockOSThread() // as a program with Block does
	}
	p, err := epore.New(epore.WithStrategy(strategy))
	if err != nil {
		return nil, errors.Join(measure.ErrMissing, err)
	}
	if p.Strategy() != strategy {
		return nil, errors.Join(measure.ErrMissing, errors.New("this queue cannot park"))
	}
	return p, nil
}

// must ends the program: a timed loop cannot return an error.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func interest(edge bool) epore.Interest {
	if edge {
		return epore.Readable | epore.Edge
	}
	return epore.Readable
}

func registerAll(p *epore.Poll, pairs []measure.Pair, in epore.Interest) error {
	for i, pair := range pairs {
		err := p.Registry().Register(epore.FD(pair.In), epore.Token(i), in)
		if errors.Is(err, errors.ErrUnsupported) {
			return errors.Join(measure.ErrMissing, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func event(a *measure.Args) ([]measure.Result, error) {
	return measure.Event(a, func(pairs []measure.Pair, edge bool) (func(int), error) {
		p, err := open(a)
		if err != nil {
			return nil, err
		}
		if err := registerAll(p, pairs, interest(edge)); err != nil {
			return nil, err
		}
		events := epore.NewEvents(capacity)
		return func(left int) {
			for left > 0 {
				must(p.Poll(events, epore.Forever))
				for ev := range events.All() {
					measure.Get(pairs[ev.Token].In)
					left--
				}
			}
		}, nil
	})
}

func ready(a *measure.Args) ([]measure.Result, error) {
	return measure.Ready(a, func(pairs []measure.Pair) (func() (int, int), error) {
		p, err := open(a)
		if err != nil {
			return nil, err
		}
		if err := registerAll(p, pairs, epore.Readable); err != nil {
			return nil, err
		}
		events := epore.NewEvents(capacity)
		return func() (n, sum int) {
			must(p.Poll(events, 0))
			for ev := range events.All() {
				n++
				sum += int(ev.Token)
			}
			return n, sum
		}, nil
	})
}

func register(a *measure.Args) ([]measure.Result, error) {
	return measure.Register(a, func(pairs []measure.Pair) (func(), error) {
		p, err := open(a)
		if err != nil {
			return nil, err
		}
		events, r := epore.NewEvents(capacity), p.Registry()
		// It has waited once, as every Poll in use has.
		if err := p.Poll(events, time.Millisecond); err != nil {
			return nil, err
		}
		return func() {
			for i, pair := range pairs {
				must(r.Register(epore.FD(pair.In), epore.Token(i), epore.Readable))
			}
			must(p.Poll(events, 0))
			for _, pair := range pairs {
				must(r.Deregister(epore.FD(pair.In)))
			}
			must(p.Poll(events, 0))
		}, nil
	})
}

func memory(a *measure.Args) ([]measure.Result, error) {
	return measure.Memory(a, func() (func([]measure.Pair) error, error) {
		p, err := open(a)
		if err != nil {
			return nil, err
		}
		if err := p.Poll(epore.NewEvents(capacity), time.Millisecond); err != nil {
			return nil, err
		}
		return func(pairs []measure.Pair) error { return registerAll(p, pairs, epore.Readable) }, nil
	})
}

func wake(a *measure.Args) ([]measure.Result, error) {
	p, err := open(a)
	if err != nil {
		return nil, err
	}
	w, err := epore.NewWaker(p.Registry(), 1)
	if err != nil {
		return nil, err
	}
	if a.Kind == "coalesced" {
		return measure.Wakes(a, func() { must(w.Wake()) })
	}
	return measure.WakeWaiting(a, func(answer func()) (func(), func(), error) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if a.Gear == "block" {
				runtime.LockOSThread()
			}
			for events := epore.NewEvents(capacity); p.Poll(events, epore.Forever) == nil; {
				answer()
			}
		}()
		return func() { must(w.Wake()) }, func() { must(p.Close()); <-ended }, nil
	})
}

func timers(a *measure.Args) ([]measure.Result, error) {
	return measure.MeasureTimers(a, func(n int) (*measure.Timers, error) {
		p, err := open(a)
		if err != nil {
			return nil, err
		}
		list := make([]*epore.Timer, n)
		for i := range list {
			if list[i], err = epore.NewTimer(p.Registry(), epore.Token(i)); err != nil {
				return nil, err
			}
		}
		events := epore.NewEvents(capacity)
		return &measure.Timers{
			Set:   func(i int, d time.Duration) { must(list[i].Reset(d)) },
			Stop:  func(i int) { list[i].Stop() },
			Run:   func() { must(p.Poll(events, epore.Forever)) },
			Fired: events.Len,
		}, nil
	})
}

// waiter is a Poll with one socket, for one goroutine.
type waiter struct {
	a      *measure.Args
	poll   *epore.Poll
	events *epore.Events
	locked bool
}

func (w *waiter) Wait() bool {
	if w.a.Gear == "block" && !w.locked {
		runtime.LockOSThread()
		w.locked = true
	}
	return w.poll.Poll(w.events, epore.Forever) == nil
}

func (w *waiter) Stop() { must(w.poll.Close()) }

func threads(a *measure.Args) ([]measure.Result, error) {
	return measure.Threads(a, func(pair measure.Pair) (measure.Waiter, error) {
		p, err := open(a)
		if err != nil {
			return nil, err
		}
		w := &waiter{a: a, poll: p, events: epore.NewEvents(capacity)}
		return w, p.Registry().Register(epore.FD(pair.In), 0, epore.Readable)
	})
}

// side is one side of a ping-pong.
type side struct {
	waiter
	fds []int
}

func (s *side) Turn(answers int) (int, bool) {
	if !s.Wait() {
		return 0, false
	}
	n := 0
	for ev := range s.events.All() {
		measure.Get(s.fds[ev.Token])
		if n < answers {
			measure.Put(s.fds[ev.Token])
		}
		n++
	}
	return n, true
}

func pingPong(a *measure.Args) ([]measure.Result, error) {
	return measure.PingPong(a, func(fds []int) (measure.Side, error) {
		p, err := open(a)
		if err != nil {
			return nil, err
		}
		in := epore.Readable | epore.Edge&p.Capabilities().Interests
		for i, fd := range fds {
			if err := p.Registry().Register(epore.FD(fd), epore.Token(i), in); err != nil {
				return nil, err
			}
		}
		return &side{waiter: waiter{a: a, poll: p, events: epore.NewEvents(capacity)}, fds: fds}, nil
	})
}

func late(a *measure.Args) ([]measure.Result, error) {
	p, err := open(a)
	if err != nil {
		return nil, err
	}
	events := epore.NewEvents(capacity)
	return measure.Late(a, func(timeout time.Duration) { must(p.Poll(events, timeout)) })
}

// allocs counts the allocations of each call that a running loop makes.
func allocs(a *measure.Args) ([]measure.Result, error) {
	pairs, err := measure.Pairs(a.Registered, 1)
	if err != nil {
		return nil, err
	}
	p, err := open(a)
	if err != nil {
		return nil, err
	}
	w, err := epore.NewWaker(p.Registry(), 1<<32)
	if err != nil {
		return nil, err
	}
	events, r := epore.NewEvents(capacity), p.Registry()
	sources := make([]epore.Source, len(pairs))
	for i, pair := range pairs {
		sources[i] = epore.FD(pair.In)
	}
	count := func(each int, f func()) float64 {
		for range 3 { // allocate what is made once, and let lists grow
			f()
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range a.Rounds {
			f()
		}
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / float64(a.Rounds*each)
	}
	registerPair := count(len(pairs), func() {
		for i, s := range sources {
			must(r.Register(s, epore.Token(i), epore.Readable))
		}
		must(p.Poll(events, 0))
		for _, s := range sources {
			must(r.Deregister(s))
		}
		must(p.Poll(events, 0))
	})
	for i, s := range sources {
		must(r.Register(s, epore.Token(i), epore.Readable))
	}
	return []measure.Result{
		{Name: "register", Value: registerPair},
		{Name: "event", Value: count(len(pairs), func() {
			for _, pair := range pairs {
				measure.Put(pair.Out)
			}
			for left := len(pairs); left > 0; {
				must(p.Poll(events, epore.Forever))
				for ev := range events.All() {
					measure.Get(pairs[ev.Token].In)
					left--
				}
			}
		})},
		{Name: "wake", Value: count(1, func() { must(w.Wake()); must(p.Poll(events, epore.Forever)) })},
		{Name: "poll", Value: count(1, func() { must(p.Poll(events, 0)) })},
		{Name: "wait", Value: count(100, func() { must(p.Poll(events, 10*time.Microsecond)) })},
	}, unix.Close(pairs[0].Out)
}
