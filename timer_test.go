//go:build unix || windows

package epore_test

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

const timerRule = "S3: never early; in the order of deadlines; reset and stop are exact"

func newTimer(t testing.TB, p *epore.Poll, token epore.Token) *epore.Timer {
	t.Helper()
	timer, err := epore.NewTimer(p.Registry(), token)
	require.NoError(t, err)
	return timer
}

// contract: S3
func TestTimer_Expires(t *testing.T) {
	eachStrategy(t, timerRule, func(t *testing.T, p *epore.Poll) {
		timer := newTimer(t, p, 7)
		events := epore.NewEvents(4)
		require.Empty(t, tokens(t, p), "it is not set")
		for _, d := range []time.Duration{time.Nanosecond, 50 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 30 * time.Millisecond} {
			for _, timeout := range []time.Duration{forever, time.Hour, 0} {
				begin := time.Now()
				require.NoError(t, timer.Reset(d))
				for events.Len() == 0 || timeout == forever {
					require.NoError(t, p.Poll(events, timeout))
					if events.Len() > 0 || timeout != 0 {
						break
					}
				}
				require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, all(events))
				require.GreaterOrEqual(t, time.Since(begin), d, "never early")
				require.NoError(t, p.Poll(events, 0))
				require.Zero(t, events.Len(), "one event")
			}
		}
		begin := time.Now()
		require.NoError(t, timer.ResetAt(begin.Add(3*time.Millisecond)))
		require.Len(t, next(t, p, events), 1)
		require.GreaterOrEqual(t, time.Since(begin), 3*time.Millisecond)
		require.NoError(t, timer.ResetAt(time.Now().Add(3*time.Millisecond).Round(0)), "by the wall clock")
		require.Len(t, next(t, p, events), 1)
	})
}

// contract: S3
func TestTimer_AtOnce(t *testing.T) {
	eachStrategy(t, "S3: zero and less expire with the next Poll; nothing overflows", func(t *testing.T, p *epore.Poll) {
		timer := newTimer(t, p, 7)
		events := epore.NewEvents(4)
		for _, d := range []time.Duration{0, -1, -time.Hour, math.MinInt64, math.MinInt64 + 1} {
			for _, timeout := range []time.Duration{0, forever} {
				require.NoError(t, timer.Reset(d))
				require.NoError(t, p.Poll(events, timeout))
				require.Len(t, all(events), 1, "%v", d)
			}
		}
		for _, at := range []time.Time{{}, time.Unix(0, 0), time.Unix(math.MinInt64, 0), time.Now().Add(-time.Hour)} {
			require.NoError(t, timer.ResetAt(at))
			require.Len(t, ready(t, p, events), 1, "%v", at)
		}
		other := newTimer(t, p, 8)
		for _, d := range []time.Duration{math.MaxInt64, math.MaxInt64 - 1, 1 << 62} {
			require.NoError(t, timer.Reset(d))
			require.NoError(t, other.Every(d))
			require.NoError(t, p.Poll(events, time.Millisecond))
			require.Zero(t, events.Len(), "%v", d)
			require.True(t, timer.Stop())
			require.True(t, other.Stop())
		}
		require.NoError(t, timer.ResetAt(time.Unix(1<<60, 0)))
		require.Empty(t, ready(t, p, events))
	})
}

// contract: S3
func TestTimer_InOrder(t *testing.T) {
	eachStrategy(t, "S3: ordered by deadline, whatever the room", func(t *testing.T, p *epore.Poll) {
		const n = 500
		random := rand.New(rand.NewPCG(1, 2))
		begin := time.Now()
		for _, i := range random.Perm(n) {
			timer := newTimer(t, p, epore.Token(i))
			require.NoError(t, timer.ResetAt(begin.Add(time.Duration(i)*10*time.Microsecond)))
		}
		seen := 0
		for _, room := range []int{1, 7, 1000} {
			events := epore.NewEvents(room)
			for more := 3; more > 0 && seen < n || room > n && seen < n; more-- {
				for _, ev := range next(t, p, events) {
					require.EqualValues(t, seen, ev.Token)
					seen++
				}
			}
		}
		require.Equal(t, n, seen)
	})
}

// contract: S3
func TestTimer_Many(t *testing.T) {
	eachStrategy(t, "S3: any number of timers; none is lost, none comes twice", func(t *testing.T, p *epore.Poll) {
		n := 3000
		if backendtest.Long() {
			n = 300_000
		}
		random := rand.New(rand.NewPCG(3, 4))
		timers := make([]*epore.Timer, n)
		for i := range timers {
			timers[i] = newTimer(t, p, epore.Token(i))
		}
		goroutines := runtime.NumGoroutine()
		want := make(map[epore.Token]bool)
		for range 3 {
			for i, timer := range timers {
				for range 1 + random.IntN(3) {
					require.NoError(t, timer.Reset(time.Duration(random.IntN(int(20*time.Millisecond)))))
				}
				if want[epore.Token(i)] = true; random.IntN(3) == 0 {
					require.True(t, timer.Stop())
					delete(want, epore.Token(i))
				}
			}
			events := epore.NewEvents(1000)
			for len(want) > 0 {
				for _, ev := range next(t, p, events) {
					require.True(t, want[ev.Token], "timer %d came, stopped or a second time", ev.Token)
					delete(want, ev.Token)
				}
			}
			require.NoError(t, p.Poll(events, time.Millisecond))
			require.Zero(t, events.Len())
		}
		require.LessOrEqual(t, runtime.NumGoroutine(), goroutines+10, "none of them has a goroutine; the runtime may have started some")
	})
}

// contract: S3
func TestTimer_ShortensAWait(t *testing.T) {
	eachStrategy(t, "S3: a timer set by another goroutine ends a wait that would be longer", func(t *testing.T, p *epore.Poll) {
		timer, late := newTimer(t, p, 7), newTimer(t, p, 8)
		require.NoError(t, late.Reset(time.Hour))
		events := epore.NewEvents(4)
		for _, timeout := range []time.Duration{forever, 2 * time.Hour, time.Minute} {
			for _, d := range []time.Duration{0, 100 * time.Microsecond, 4 * time.Millisecond} {
				for range 5 {
					polled := asleep(p, func() error { return p.Poll(events, timeout) })
					begin := time.Now()
					require.NoError(t, timer.Reset(d))
					require.NoError(t, <-polled)
					require.GreaterOrEqual(t, time.Since(begin), d)
					require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, all(events))
				}
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		polled := asleep(p, func() error { return p.PollContext(ctx, events) })
		require.NoError(t, timer.Every(time.Millisecond))
		require.NoError(t, <-polled)
		require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, all(events))
		require.NoError(t, timer.Close())
		polled = asleep(p, func() error { return p.PollContext(ctx, events) })
		cancel()
		require.Equal(t, context.Canceled, <-polled)
	})
}

// contract: S3
func TestTimer_NoneIsLost(t *testing.T) {
	eachStrategy(t, "S3: a timer set by another goroutine is seen, whatever the loop is just doing", func(t *testing.T, p *epore.Poll) {
		timer := newTimer(t, p, 7)
		pingPong(t, p, func() error { return timer.Reset(0) }, func() {})
	})
}

// contract: S3
func TestTimer_SetFromManyGoroutines(t *testing.T) {
	eachStrategy(t, "S3: no timer is lost, whatever the loop is just doing", func(t *testing.T, p *epore.Poll) {
		const setters = 2
		rounds := backendtest.Rounds(t, 500, 30_000)
		came := make([]chan time.Time, setters)
		ended := newMailbox[bool](t, p, setters)
		for i := range setters {
			came[i] = make(chan time.Time, 1)
			timer := newTimer(t, p, epore.Token(i))
			go func() {
				defer func() { assert.NoError(t, ended.Send(true)) }()
				random := rand.New(rand.NewPCG(uint64(i), 5))
				for range rounds {
					d := time.Duration(random.IntN(int(300 * time.Microsecond)))
					if random.IntN(20) == 0 {
						d += 3 * time.Millisecond
					}
					begin := time.Now()
					assert.NoError(t, timer.Reset(time.Hour))
					assert.NoError(t, timer.Reset(d))
					assert.GreaterOrEqual(t, (<-came[i]).Sub(begin), d)
				}
			}()
		}
		events := epore.NewEvents(2)
		for left := setters; left > 0; {
			require.NoError(t, p.Poll(events, forever))
			for ev := range events.All() {
				if ev.Token < setters {
					came[ev.Token] <- time.Now()
					continue
				}
				for range ended.All() {
					left--
				}
			}
		}
	})
}

// contract: S3
func TestTimer_NeedlessWakeUps(t *testing.T) {
	p, f := openFake(t)
	events := epore.NewEvents(4)
	soon, late := newTimer(t, p, 1), newTimer(t, p, 2)
	require.NoError(t, soon.Reset(time.Hour))
	require.Zero(t, f.Wakes(), "nobody waits")
	polled := asleep(p, func() error { return p.Poll(events, 3*time.Hour) })
	for range 100 {
		require.NoError(t, late.Reset(2*time.Hour))
		require.NoError(t, late.Reset(4*time.Hour))
		require.NoError(t, late.Every(2*time.Hour))
		require.True(t, late.Stop())
		require.NoError(t, soon.Reset(time.Hour))
	}
	require.Zero(t, f.Wakes(), "S3: only a timer that is earlier than the end of the wait ends it")
	require.True(t, soon.Stop())
	require.Zero(t, f.Wakes())
	require.NoError(t, late.Reset(30*time.Minute))
	require.Equal(t, 1, f.Wakes())
	p.AwaitSleep(nil)
	require.NoError(t, late.Reset(40*time.Minute))
	require.NoError(t, soon.Reset(35*time.Minute))
	require.Equal(t, 1, f.Wakes())
	require.NoError(t, soon.Reset(0))
	require.NoError(t, <-polled)
	require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, all(events))
	require.Equal(t, 2, f.Wakes())

	require.True(t, late.Stop())
	polled = asleep(p, func() error { return p.Poll(events, time.Hour) })
	require.NoError(t, late.Reset(2*time.Hour))
	require.Equal(t, 2, f.Wakes(), "S3: the wait ends before it anyway")
	require.NoError(t, soon.Reset(0))
	require.NoError(t, <-polled)
}

// A wait that a timer ends is a single wait, however many timers were stopped before.
func TestTimer_CostsNoIterations(t *testing.T) {
	f := &recordingFake{Fake: backendtest.NewFake()}
	p, err := epore.NewWith(f, epore.WithStrategy(epore.Block))
	require.NoError(t, err)
	defer p.Close()
	timer, stopped, moved := newTimer(t, p, 1), newTimer(t, p, 2), newTimer(t, p, 3)
	events := epore.NewEvents(4)
	for range 4 {
		require.NoError(t, stopped.Reset(time.Microsecond))
		require.NoError(t, moved.Reset(time.Microsecond))
		require.NoError(t, timer.Reset(time.Millisecond))
		require.NoError(t, moved.Reset(time.Hour))
		require.True(t, stopped.Stop())
		f.timeouts = nil
		require.NoError(t, p.Poll(events, forever))
		require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, all(events))
		require.Len(t, f.timeouts, 2, "the look, and the wait")
		require.True(t, moved.Stop())
	}
}

// contract: P2
func TestTimer_EndsNoTimeoutEarly(t *testing.T) {
	eachStrategy(t, "P2, S3: a timer that was stopped or moved while the Poll sleeps for it does not end it", func(t *testing.T, p *epore.Poll) {
		timer, moved := newTimer(t, p, 1), newTimer(t, p, 2)
		events := epore.NewEvents(4)
		for _, d := range []time.Duration{time.Millisecond, 4 * time.Millisecond} {
			require.NoError(t, timer.Reset(d))
			require.NoError(t, moved.Reset(d))
			begin := time.Now()
			polled := asleep(p, func() error { return p.Poll(events, 3*d) })
			stopped := timer.Stop()
			require.NoError(t, moved.Reset(time.Hour))
			require.NoError(t, <-polled)
			if !stopped || time.Since(begin) < d {
				continue // too late: it had expired
			}
			for _, ev := range all(events) {
				require.NotEqual(t, epore.Token(1), ev.Token)
			}
			if events.Len() == 0 {
				require.GreaterOrEqual(t, time.Since(begin), 3*d)
			}
		}
	})
}

// contract: S3
func TestTimer_Stop(t *testing.T) {
	eachStrategy(t, "S3: after Stop there is no event, not from the batch in hand either; it says whether there would have been one", func(t *testing.T, p *epore.Poll) {
		timer, other := newTimer(t, p, 1), newTimer(t, p, 2)
		events := epore.NewEvents(4)
		require.False(t, timer.Stop(), "never set")
		require.NoError(t, timer.Reset(time.Hour))
		require.True(t, timer.Stop(), "set")
		require.False(t, timer.Stop(), "stopped")

		require.NoError(t, timer.Reset(0))
		require.True(t, timer.Stop(), "expired, and not polled")
		require.Empty(t, ready(t, p, events))

		expired := func() {
			t.Helper()
			require.NoError(t, timer.Reset(0))
			require.NoError(t, p.Poll(events, 0))
			require.Equal(t, 1, events.Len())
		}
		expired()
		require.True(t, timer.Stop(), "in the batch in hand, and not seen")
		require.Empty(t, all(events), "and never will be")
		require.False(t, timer.Stop())

		expired()
		require.Len(t, all(events), 1)
		require.False(t, timer.Stop(), "seen")
		require.Empty(t, all(events))

		expired()
		for range events.All() {
			require.False(t, timer.Stop(), "being handled")
		}

		expired()
		for range events.All() {
			require.NoError(t, timer.Reset(time.Hour))
		}
		require.True(t, timer.Stop(), "set again while handled")

		expired()
		require.NoError(t, p.Poll(events, 0))
		require.True(t, timer.Stop(), "left in a batch that is gone: not seen")

		require.NoError(t, timer.Reset(-2))
		require.NoError(t, other.Reset(-1))
		require.NoError(t, p.Poll(events, 0))
		var seen []epore.Token
		for ev := range events.All() {
			seen = append(seen, ev.Token)
			require.True(t, other.Stop(), "by a handler that comes before it in the batch")
		}
		require.Equal(t, []epore.Token{1}, seen)

		require.NoError(t, timer.Every(time.Microsecond))
		require.Len(t, next(t, p, events), 1)
		require.True(t, timer.Stop(), "of a periodic one there would have been another")
		require.False(t, timer.Stop())
		require.Empty(t, all(events))
		require.NoError(t, p.Poll(events, time.Millisecond))
		require.Zero(t, events.Len())
	})
}

// contract: S3
func TestTimer_Reset(t *testing.T) {
	eachStrategy(t, "S3: after Reset no event of what the timer was set to before", func(t *testing.T, p *epore.Poll) {
		timer := newTimer(t, p, 1)
		events := epore.NewEvents(4)
		for range 100 {
			require.NoError(t, timer.Reset(0))
			require.NoError(t, p.Poll(events, 0))
			require.Equal(t, 1, events.Len())
			require.NoError(t, timer.Reset(time.Hour))
			require.Empty(t, all(events), "in hand")
			require.Empty(t, ready(t, p, events))
			require.NoError(t, timer.Reset(time.Microsecond), "earlier than it was")
			require.Len(t, next(t, p, events), 1)
			require.Empty(t, ready(t, p, events))
			require.NoError(t, timer.Every(time.Hour))
			require.NoError(t, timer.Reset(0))
			require.Len(t, ready(t, p, events), 1, "no period any more")
			require.Empty(t, ready(t, p, events))
			require.False(t, timer.Stop())
		}
	})
}

// Stop's result agrees with what the loop sees, when both run at the same time.
// contract: S3
func TestTimer_StopIsExact(t *testing.T) {
	eachStrategy(t, "S3: after Stop returned true its event is not delivered, and after false it was", func(t *testing.T, p *epore.Poll) {
		timer := newTimer(t, p, 1)
		end := newWaker(t, p, 2)
		var seen atomic.Int64
		over := make(chan bool)
		go func() {
			defer close(over)
			events := epore.NewEvents(2)
			for {
				if !assert.NoError(t, p.Poll(events, forever)) {
					return
				}
				for ev := range events.All() {
					if ev.Token == 2 {
						return
					}
					seen.Add(1)
				}
			}
		}()
		random := rand.New(rand.NewPCG(5, 6))
		var expired, stopped int64
		for range backendtest.Rounds(t, 2000, 200_000) {
			d := time.Duration(random.IntN(int(20 * time.Microsecond)))
			require.NoError(t, timer.Reset(d))
			for until := time.Now().Add(d + 20*time.Microsecond - time.Duration(random.IntN(int(20*time.Microsecond)))); time.Now().Before(until); {
				runtime.Gosched()
			}
			if timer.Stop() {
				stopped++
			} else {
				expired++
			}
			for seen.Load() < expired {
				runtime.Gosched() // All has given it
			}
			require.Equal(t, expired, seen.Load())
		}
		require.NoError(t, end.Wake())
		<-over
		require.Equal(t, expired, seen.Load())
		t.Logf("%d expired, %d were stopped", expired, stopped)
	})
}

// contract: S3
func TestTimer_Every(t *testing.T) {
	eachStrategy(t, "S3: a periodic timer does not drift, and missed ticks coalesce and are counted", func(t *testing.T, p *epore.Poll) {
		const period = 200 * time.Microsecond
		timer := newTimer(t, p, 1)
		events := epore.NewEvents(4)
		before := time.Now()
		require.NoError(t, timer.Every(period))
		after := time.Now()
		var ticks uint64
		for round := range 40 {
			if round%10 == 9 {
				time.Sleep(5 * period)
			}
			asked := time.Now()
			require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, next(t, p, events))
			n := timer.Ticks()
			require.NotZero(t, n)
			if round%10 == 9 {
				require.GreaterOrEqual(t, n, uint64(4))
			}
			ticks += n
			require.Zero(t, timer.Ticks(), "they are asked for")
			require.GreaterOrEqual(t, time.Since(before), time.Duration(ticks)*period, "never early, all in all")
			require.GreaterOrEqual(t, ticks, uint64(asked.Sub(after)/period), "none is lost, all in all")
		}
		require.NoError(t, timer.Every(time.Hour))
		require.Zero(t, timer.Ticks())
		require.NoError(t, timer.Reset(0))
		require.Len(t, next(t, p, events), 1)
		require.EqualValues(t, 1, timer.Ticks())
	})
}

// contract: R6, S3
func TestTimer_Closed(t *testing.T) {
	eachStrategy(t, "R6, S3: a closed Timer is silent, also in the batch in hand, and answers ErrClosed", func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(4)
		timer, other := newTimer(t, p, 1), newTimer(t, p, 2)
		require.NoError(t, timer.Reset(0))
		require.NoError(t, timer.Close())
		require.NoError(t, timer.Close())
		require.Empty(t, ready(t, p, events), "closed before the Poll")

		require.NoError(t, other.Reset(0))
		require.NoError(t, p.Poll(events, 0))
		require.Equal(t, 1, events.Len())
		require.NoError(t, other.Close())
		require.Empty(t, all(events), "closed with its event in hand")

		again := newTimer(t, p, 3) // in the slot of one of them
		require.NoError(t, again.Every(time.Nanosecond))
		for range 3 {
			for _, closed := range []*epore.Timer{timer, other} {
				require.ErrorIs(t, closed.Reset(0), epore.ErrClosed)
				require.ErrorIs(t, closed.ResetAt(time.Now()), epore.ErrClosed)
				require.ErrorIs(t, closed.Every(1), epore.ErrClosed)
				require.False(t, closed.Stop())
			}
			require.Equal(t, []epore.Event{{Token: 3, Ready: 1}}, next(t, p, events), "others go on")
		}
		for range events.All() {
			require.NoError(t, again.Close())
		}
		require.Empty(t, ready(t, p, events))

		last := newTimer(t, p, 4)
		require.NoError(t, last.Reset(time.Hour))
		require.NoError(t, p.Close())
		require.ErrorIs(t, last.Reset(0), epore.ErrClosed)
		require.False(t, last.Stop(), "of a closed Poll nothing will come")
		require.NoError(t, last.Close())
		require.NoError(t, last.Close())
	})
}

// All operations on timers run concurrently.
// contract: S3
func TestTimer_Concurrent(t *testing.T) {
	eachStrategy(t, "S3: all methods from any goroutine, also while the Poll is closed", func(t *testing.T, p *epore.Poll) {
		rounds := 2000
		if backendtest.Long() {
			rounds = 100_000
		}
		timers := make([]*epore.Timer, 8)
		for i := range timers {
			timers[i] = newTimer(t, p, epore.Token(i))
		}
		ended := make(chan bool)
		for g := range 4 {
			go func() {
				defer func() { ended <- true }()
				random := rand.New(rand.NewPCG(uint64(g), 7))
				var err error
				for range rounds {
					timer := timers[random.IntN(len(timers))]
					d := time.Duration(random.IntN(int(100 * time.Microsecond)))
					switch random.IntN(6) {
					case 0, 1:
						err = timer.Reset(d)
					case 2:
						err = timer.Every(d + 1)
					case 3:
						timer.Stop()
					case 4:
						timer.Ticks()
					case 5:
						if random.IntN(rounds) == 0 {
							err = timer.Close()
						}
					}
					if err != nil {
						assert.ErrorIs(t, err, epore.ErrClosed)
					}
				}
			}()
		}
		events := epore.NewEvents(3)
		for left := 4; left > 0; {
			select {
			case <-ended:
				if left--; left == 1 {
					require.NoError(t, p.Close())
				}
				continue
			default:
			}
			if err := p.Poll(events, 50*time.Microsecond); err != nil {
				require.ErrorIs(t, err, epore.ErrClosed)
			}
			for ev := range events.All() {
				require.Less(t, ev.Token, epore.Token(len(timers)))
				timers[ev.Token].Stop()
			}
		}
	})
}

// contract: S3
func TestTimer_LeavesNothingBehind(t *testing.T) {
	p := open(t)
	guard(t, "S3: timers that are created, set and closed again and again need no more memory, and the memory of a burst is given back")
	events := epore.NewEvents(64)
	const many = 10_000
	timers := make([]*epore.Timer, many)
	for i := range timers {
		timers[i] = newTimer(t, p, 1)
		require.NoError(t, timers[i].Reset(time.Hour))
	}
	slots := p.Slots()
	require.GreaterOrEqual(t, p.TimerRoom(), many)
	for _, timer := range timers {
		require.NoError(t, timer.Close())
	}
	later := func() {
		for range 50 {
			require.NoError(t, p.Poll(events, time.Microsecond))
		}
	}
	later()
	require.Less(t, p.TimerRoom(), many/4, "stopped")

	for i := range timers {
		timers[i] = newTimer(t, p, 1)
		require.NoError(t, timers[i].Reset(0))
	}
	for left := many; left > 0; {
		left -= len(next(t, p, events))
	}
	later()
	require.Less(t, p.TimerRoom(), many/4, "expired")
	for _, timer := range timers {
		require.NoError(t, timer.Close())
	}
	require.Equal(t, slots, p.Slots())

	timer := newTimer(t, p, 1)
	for i := range 10_000 {
		require.NoError(t, timer.Reset(time.Hour-time.Duration(i)*time.Second/10))
	}
	require.Less(t, p.TimerRoom(), 2000, "set to earlier and earlier times")

	require.NoError(t, timer.Reset(time.Second))
	var collected atomic.Int32
	const few = 100
	for range few {
		closed := newTimer(t, p, 1)
		require.NoError(t, closed.Reset(time.Hour))
		require.NoError(t, closed.Close())
		runtime.AddCleanup(closed, func(int) { collected.Add(1) }, 0)
	}
	require.NoError(t, p.Poll(events, time.Microsecond))
	for collected.Load() < few {
		runtime.GC()
		runtime.Gosched()
	}
}

const fairRule = "S6: with room for one event, sockets have every second Poll, expired timers every fourth, and what is posted every fourth, in turn"

// contract: S6
func TestPoll_NothingStarves(t *testing.T) {
	for _, room := range []int{1, 2, 5} {
		eachStrategy(t, fairRule, func(t *testing.T, p *epore.Poll) {
			const socket, box, waker, expired = 1, 2, 3, 4
			a, b := fixture.Pair(t)
			b.Write("x")
			register(t, p, a, socket, epore.Readable)
			m := newMailbox[int](t, p, box)
			w := newWaker(t, p, waker)
			tick := newTimer(t, p, expired)
			require.NoError(t, tick.Every(1))
			var timers []*epore.Timer
			for range 100 {
				timers = append(timers, newTimer(t, p, expired))
			}
			// The number of Polls since each had its last event, and the limit.
			since := map[epore.Token]int{socket: 0, box: 0, waker: 0, expired: 0}
			most := map[epore.Token]int{socket: 2, box: 8, waker: 8, expired: 4}
			events := epore.NewEvents(room)
			for round := range 300 {
				require.NoError(t, m.Send(round))
				require.NoError(t, w.Wake())
				require.NoError(t, timers[round%len(timers)].Reset(0))
				for token := range since {
					since[token]++
				}
				for _, ev := range next(t, p, events) {
					since[ev.Token] = 0
					if ev.Token == box {
						_, ok := m.Receive()
						require.True(t, ok)
					}
				}
				for token := range since {
					require.Less(t, since[token], most[token], "token %d, Poll %d", token, round)
				}
			}
		})
	}
}
