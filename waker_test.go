//go:build unix || windows

package epore_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

const wakeRule = "S1: Wake from any goroutine gives one event with its token; wakes before it is delivered coalesce; a wake is never lost"

// contract: S1
func TestWaker_BeforePoll(t *testing.T) {
	eachStrategy(t, wakeRule, func(t *testing.T, p *epore.Poll) {
		w := newWaker(t, p, 7)
		events := epore.NewEvents(4)
		require.Empty(t, tokens(t, p))
		for range 100 {
			require.NoError(t, w.Wake())
			require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, next(t, p, events))
			require.Empty(t, ready(t, p, events), "one event")
		}
	})
}

// contract: S1
func TestWaker_DuringPoll(t *testing.T) {
	eachStrategy(t, wakeRule, func(t *testing.T, p *epore.Poll) {
		w := newWaker(t, p, 7)
		events := epore.NewEvents(4)
		for _, timeout := range []time.Duration{forever, time.Hour, 1900 * time.Microsecond} {
			for range 200 {
				polled := asleep(p, func() error {
					err := p.Poll(events, timeout)
					for err == nil && events.Len() == 0 { // the short one is over at times
						err = p.Poll(events, timeout)
					}
					return err
				})
				require.NoError(t, w.Wake())
				require.NoError(t, <-polled)
				require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, all(events))
			}
		}
		require.Empty(t, ready(t, p, events))
	})
}

// contract: S1
func TestWaker_BetweenPolls(t *testing.T) {
	eachStrategy(t, wakeRule, func(t *testing.T, p *epore.Poll) {
		w := newWaker(t, p, 7)
		events := epore.NewEvents(4)
		for _, timeout := range []time.Duration{0, time.Microsecond, 3 * time.Millisecond} {
			require.NoError(t, p.Poll(events, timeout))
			require.Empty(t, all(events))
			require.NoError(t, w.Wake())
			require.NoError(t, w.Wake())
			require.NoError(t, p.Poll(events, timeout))
			require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, all(events))
		}
	})
}

// contract: S1
func TestWaker_Coalesces(t *testing.T) {
	eachStrategy(t, wakeRule, func(t *testing.T, p *epore.Poll) {
		w := newWaker(t, p, 7)
		var wakes sync.WaitGroup
		for range 100 {
			wakes.Go(func() { assert.NoError(t, w.Wake()) })
		}
		wakes.Wait()
		events := epore.NewEvents(256)
		require.Len(t, next(t, p, events), 1)
		require.Empty(t, ready(t, p, events))
		require.NoError(t, w.Wake())
		require.Len(t, next(t, p, events), 1, "after the event, a wake is a new one")
	})
}

// contract: S1
func TestWaker_FromManyGoroutines(t *testing.T) {
	eachStrategy(t, wakeRule, func(t *testing.T, p *epore.Poll) {
		const goroutines = 100
		rounds := 100
		if backendtest.Long() {
			rounds = 10_000
		}
		w := newWaker(t, p, 7)
		var sent, seen atomic.Int64
		var waking sync.WaitGroup
		for range goroutines {
			waking.Go(func() {
				for range rounds {
					sent.Add(1)
					assert.NoError(t, w.Wake())
				}
			})
		}
		defer waking.Wait()
		events := epore.NewEvents(4)
		for seen.Load() < int64(goroutines*rounds) {
			// What was sent before a Wake is seen after its event. So an event comes
			// after the last value was sent.
			require.Len(t, next(t, p, events), 1)
			seen.Store(sent.Load())
		}
	})
}

// Ping-pong: every wake must arrive, whatever the other side is doing at that moment.
// contract: S1
func TestWaker_NoWakeIsLost(t *testing.T) {
	eachStrategy(t, wakeRule, func(t *testing.T, p *epore.Poll) {
		q := open(t, epore.WithStrategy(p.Strategy()))
		there, back := newWaker(t, p, 1), newWaker(t, q, 2)
		var over atomic.Bool
		echoed := make(chan error, 1)
		go func() {
			events := epore.NewEvents(1)
			for {
				if err := p.Poll(events, forever); err != nil || over.Load() {
					echoed <- err
					return
				}
				if err := back.Wake(); err != nil {
					echoed <- err
					return
				}
			}
		}()
		events := epore.NewEvents(1)
		random := rand.New(rand.NewPCG(1, 2))
		for range backendtest.Rounds(t, 1000, 300_000) {
			require.NoError(t, there.Wake())
			for {
				// Timeouts that end just when the answer comes.
				timeout := forever
				if random.IntN(2) == 0 {
					timeout = time.Duration(random.IntN(int(3 * time.Millisecond)))
				}
				require.NoError(t, q.Poll(events, timeout))
				if events.Len() > 0 {
					break
				}
			}
		}
		over.Store(true)
		require.NoError(t, there.Wake())
		require.NoError(t, <-echoed)
	})
}

// contract: S1
func TestWaker_Many(t *testing.T) {
	eachStrategy(t, "S1: a Poll has any number of Wakers, each with its own token", func(t *testing.T, p *epore.Poll) {
		const n = 500
		var wakers []*epore.Waker
		for i := range n {
			wakers = append(wakers, newWaker(t, p, epore.Token(i)))
		}
		events := epore.NewEvents(64)
		var waking sync.WaitGroup
		defer waking.Wait()
		for range 5 {
			waking.Go(func() {
				for _, w := range wakers {
					assert.NoError(t, w.Wake())
				}
			})
			seen := make(map[epore.Token]bool)
			for len(seen) < n {
				for _, ev := range next(t, p, events) {
					require.False(t, seen[ev.Token], "waker %d twice", ev.Token)
					seen[ev.Token] = true
				}
			}
		}
		require.Empty(t, tokens(t, p))
	})
}

// contract: S6
func TestWaker_SharesLittleRoom(t *testing.T) {
	eachStrategy(t, "S6: with capacity 1 and an always-ready socket, a wake arrives within two Polls; and wakers do not starve sockets", func(t *testing.T, p *epore.Poll) {
		a, b := fixture.Pair(t)
		b.Write("x")
		register(t, p, a, 1, epore.Readable)
		w, v := newWaker(t, p, 2), newWaker(t, p, 3)
		events := epore.NewEvents(1)
		for range 100 {
			require.NoError(t, w.Wake())
			first, second := next(t, p, events)[0].Token, next(t, p, events)[0].Token
			require.Contains(t, []epore.Token{first, second}, epore.Token(2))
			require.Contains(t, []epore.Token{first, second}, epore.Token(1))
		}
		// Wakers that are woken all the time leave room for the socket, too.
		for range 100 {
			require.NoError(t, w.Wake())
			require.NoError(t, v.Wake())
			first := next(t, p, events)[0].Token
			require.NoError(t, w.Wake())
			require.NoError(t, v.Wake())
			second := next(t, p, events)[0].Token
			require.Contains(t, []epore.Token{first, second}, epore.Token(1))
		}
	})
}

// contract: R6, S1
func TestWaker_Closed(t *testing.T) {
	eachStrategy(t, "R6, S1: a closed Waker is silent, also in the batch in hand, and answers ErrClosed", func(t *testing.T, p *epore.Poll) {
		w, v := newWaker(t, p, 1), newWaker(t, p, 2)
		require.NoError(t, w.Wake())
		require.NoError(t, w.Close())
		require.NoError(t, w.Close())
		require.ErrorIs(t, w.Wake(), epore.ErrClosed)
		require.Empty(t, tokens(t, p), "closed before the Poll")

		require.NoError(t, v.Wake())
		events := epore.NewEvents(4)
		require.Len(t, next(t, p, events), 1)
		require.NoError(t, v.Close())
		require.Empty(t, all(events), "closed with its event in hand")

		u := newWaker(t, p, 3)
		require.NoError(t, u.Wake())
		require.Equal(t, []epore.Token{3}, tokens(t, p), "others go on")

		a, b := fixture.Pair(t)
		b.Write("x")
		register(t, p, a, 4, epore.Readable)
		events = epore.NewEvents(1)
		for range 4 {
			u := newWaker(t, p, 5)
			require.NoError(t, u.Wake())
			require.NoError(t, u.Close())
			require.Equal(t, []epore.Event{{Token: 4, Ready: 1}}, ready(t, p, events), "what is closed takes no room")
		}
	})
}

// contract: P10
func TestWaker_LeavesNothingBehind(t *testing.T) {
	eachStrategy(t, "S1: Wakers that are created and closed again and again need no more memory", func(t *testing.T, p *epore.Poll) {
		require.Zero(t, testing.AllocsPerRun(1000, func() {
			// The Waker itself is the only allocation.
			w, err := epore.NewWaker(p.Registry(), 1)
			if err != nil || w.Wake() != nil || w.Close() != nil {
				t.Error("a Waker fails")
			}
		})-1)
	})
}
