package micro_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
)

// What Epore costs, compared with the floor: the same loop by raw system calls, or what Go
// itself has for it. These machines drift, so the contestants take turns, round by round within one
// benchmark, and medians are compared: read the "ratio" columns, and run with
// -count=5. ns/op is the sum of all contestants and means nothing.

// contestant is one way to do a round of the same work.
type contestant struct {
	name  string
	round func()
	ready func() // what must be done before; not measured
}

// versus runs the contestants in turn, b.N rounds each, and reports the median
// time of each for one of the units of a round, less what base takes, if that
// is there; and its ratio to the first.
func versus(b *testing.B, units int, base func(), contestants ...contestant) {
	b.Helper()
	if base != nil {
		contestants = append([]contestant{{round: base}}, contestants...)
	}
	times := make([][]float64, len(contestants))
	for i := range times {
		times[i] = make([]float64, b.N)
	}
	timed := func(c contestant) float64 {
		if c.ready != nil {
			c.ready()
		}
		begin := time.Now()
		c.round()
		return float64(time.Since(begin))
	}
	for range 3 { // warm up
		for _, c := range contestants {
			timed(c)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := range b.N {
		for i, c := range contestants {
			times[i][n] = timed(c)
		}
	}
	b.StopTimer()
	medians := make([]float64, len(contestants))
	for i, t := range times {
		slices.Sort(t)
		medians[i] = t[len(t)/2] / float64(units)
	}
	if base != nil {
		for i := range medians[1:] {
			medians[i+1] -= medians[0]
		}
		contestants, medians = contestants[1:], medians[1:]
	}
	for i, c := range contestants {
		b.ReportMetric(medians[i], c.name+"-ns")
		if i > 0 {
			b.ReportMetric(medians[i]/medians[0], c.name+"-ratio")
		}
	}
}

// newPoll is New, for benchmarks of what needs no descriptor.
func newPoll(b *testing.B, opts ...epore.Option) *epore.Poll {
	p, err := epore.New(opts...)
	if errors.Is(err, errors.ErrUnsupported) {
		b.Skip(err)
	}
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, p.Close()) })
	return p
}

// 100,000 timers, with random times between one and two hours; for each timer. Those
// of package time are created again in "set", as programs do; "renew" is their Reset.
func BenchmarkTimers(b *testing.B) {
	const n = 100_000
	random := rand.New(rand.NewPCG(1, 2))
	delays := make([]time.Duration, n)
	for i := range delays {
		delays[i] = time.Hour + time.Duration(random.Int64N(int64(time.Hour)))
	}
	p := newPoll(b)
	events := epore.NewEvents(1024)
	timers := make([]*epore.Timer, n)
	for i := range timers {
		var err error
		timers[i], err = epore.NewTimer(p.Registry(), epore.Token(i))
		require.NoError(b, err)
	}
	set := func(more time.Duration) {
		for i, t := range timers {
			if err := t.Reset(delays[i] + more); err != nil {
				panic(err)
			}
		}
	}
	stop := func() {
		for _, t := range timers {
			t.Stop()
		}
	}
	idle := func() {
		if err := p.Poll(events, time.Microsecond); err != nil {
			panic(err)
		}
	}

	var fired atomic.Int64
	fire := func() { fired.Add(1) }
	funcs := make([]*time.Timer, n)
	setFuncs := func() {
		for i := range funcs {
			funcs[i] = time.AfterFunc(delays[i], fire)
		}
	}
	renewFuncs := func(more time.Duration) {
		for i, t := range funcs {
			t.Reset(delays[i] + more)
		}
	}
	stopFuncs := func() {
		for _, t := range funcs {
			t.Stop()
		}
	}
	setFuncs()

	b.Run("set", func(b *testing.B) {
		versus(b, n, nil,
			contestant{"afterfunc", setFuncs, stopFuncs},
			contestant{"renew", func() { renewFuncs(0) }, stopFuncs},
			contestant{"epore", func() { set(0) }, func() { stop(); idle() }})
	})
	b.Run("set later", func(b *testing.B) {
		versus(b, n, nil,
			contestant{"renew", func() { renewFuncs(time.Minute) }, func() { renewFuncs(0) }},
			contestant{"epore", func() { set(time.Minute) }, func() { stop(); idle(); set(0) }})
	})
	b.Run("set sooner", func(b *testing.B) {
		versus(b, n, nil,
			contestant{"renew", func() { renewFuncs(-time.Minute) }, func() { renewFuncs(0) }},
			contestant{"epore", func() { set(-time.Minute) }, func() { stop(); idle(); set(0) }})
	})
	b.Run("stop", func(b *testing.B) {
		versus(b, n, nil,
			contestant{"afterfunc", stopFuncs, func() { renewFuncs(0) }},
			contestant{"epore", stop, func() { idle(); set(0) }},
			contestant{"epore-swept", func() { stop(); idle() }, func() { set(0) }}) // with what it leaves to the next wait
	})
	b.Run("fire", func(b *testing.B) {
		// All are due when the round begins, within 10 µs.
		const ahead = 200 * time.Millisecond
		due := func(set func(i int, at time.Time)) {
			at := time.Now().Add(ahead)
			for i := range delays {
				set(i, at.Add(delays[i]%(10*time.Microsecond)))
			}
			for !time.Now().After(at.Add(10 * time.Microsecond)) {
			}
		}
		versus(b, n, nil,
			contestant{"afterfunc", func() {
				for fired.Load() < n {
					time.Sleep(10 * time.Microsecond)
				}
			}, func() {
				stopFuncs()
				fired.Store(0)
				due(func(i int, at time.Time) { funcs[i].Reset(time.Until(at)) })
			}},
			contestant{"epore", func() {
				for left := n; left > 0; {
					if err := p.Poll(events, epore.Forever); err != nil {
						panic(err)
					}
					for range events.All() {
						left--
					}
				}
			}, func() { due(func(i int, at time.Time) { _ = timers[i].ResetAt(at) }) }})
	})
}

// Sending values to a loop, compared with a channel, for each value.
func BenchmarkMailbox(b *testing.B) {
	const batch = 1000
	b.Run("one goroutine", func(b *testing.B) {
		p := newPoll(b)
		m, err := epore.NewMailbox[int](p.Registry(), 1)
		require.NoError(b, err)
		events, c, sum := epore.NewEvents(4), make(chan int, batch), 0
		versus(b, batch, nil,
			contestant{name: "channel", round: func() {
				for i := range batch {
					c <- i
				}
				for range batch {
					select {
					case v := <-c:
						sum += v
					default:
						panic("nothing there")
					}
				}
			}},
			contestant{name: "epore", round: func() {
				for i := range batch {
					if m.Send(i) != nil {
						panic("Send fails")
					}
				}
				if p.Poll(events, epore.Forever) != nil {
					panic("Poll fails")
				}
				for v := range m.All() {
					sum += v
				}
			}})
	})
	for _, senders := range []int{1, 4} {
		b.Run(fmt.Sprint(senders, " senders"), func(b *testing.B) {
			p := newPoll(b)
			m, err := epore.NewMailbox[int](p.Registry(), 1)
			require.NoError(b, err)
			events, c := epore.NewEvents(4), make(chan int, batch)
			all := func(send func(int), receive func()) {
				var sending sync.WaitGroup
				for range senders {
					sending.Go(func() {
						for i := range batch / senders {
							send(i)
						}
					})
				}
				receive()
				sending.Wait()
			}
			versus(b, batch, nil,
				contestant{name: "channel", round: func() {
					all(func(v int) { c <- v }, func() {
						for range batch {
							<-c
						}
					})
				}},
				contestant{name: "epore", round: func() {
					all(func(v int) { _ = m.Send(v) }, func() {
						for left := batch; left > 0; {
							if p.Poll(events, epore.Forever) != nil {
								panic("Poll fails")
							}
							for range m.All() {
								left--
							}
						}
					})
				}})
		})
	}
	b.Run("coalesced", func(b *testing.B) {
		p := newPoll(b)
		m, err := epore.NewMailbox[int](p.Registry(), 1)
		require.NoError(b, err)
		require.NoError(b, m.Send(0))
		b.ReportAllocs()
		for b.Loop() {
			_ = m.Send(1)
			m.Receive()
		}
	})
}

// Waking a loop that waits, compared with a channel send to a goroutine that waits, both with
// the way back by a channel.
func BenchmarkWakeBy(b *testing.B) {
	const batch = 200
	woken := make(chan struct{})
	back := func() { woken <- struct{}{} }
	send := make(chan struct{})
	go func() {
		for range send {
			back()
		}
	}()
	defer close(send)
	// wakeBy makes a loop, and the way to wake it.
	wakeBy := func(source func(p *epore.Poll) (wake func() error, seen func())) func() {
		p := newPoll(b)
		wake, seen := source(p)
		go func() {
			events := epore.NewEvents(4)
			for p.Poll(events, epore.Forever) == nil {
				seen()
				back()
			}
		}()
		return func() {
			for range batch {
				if err := wake(); err != nil {
					panic(err)
				}
				<-woken
			}
		}
	}
	versus(b, batch, nil,
		contestant{name: "channel", round: func() {
			for range batch {
				send <- struct{}{}
				<-woken
			}
		}},
		contestant{name: "waker", round: wakeBy(func(p *epore.Poll) (func() error, func()) {
			w, err := epore.NewWaker(p.Registry(), 1)
			require.NoError(b, err)
			return w.Wake, func() {}
		})},
		contestant{name: "mailbox", round: wakeBy(func(p *epore.Poll) (func() error, func()) {
			m, err := epore.NewMailbox[int](p.Registry(), 1)
			require.NoError(b, err)
			return func() error { return m.Send(1) }, func() { m.Receive() }
		})},
		contestant{name: "timer", round: wakeBy(func(p *epore.Poll) (func() error, func()) {
			t, err := epore.NewTimer(p.Registry(), 1)
			require.NoError(b, err)
			return func() error { return t.Reset(0) }, func() {}
		})},
	)
}
