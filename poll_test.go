//go:build unix || windows

package epore_test

import (
	"errors"
	"io/fs"
	"math"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
)

// contract: P5
func TestPoll_EmptiesEventsFirst(t *testing.T) {
	eachStrategy(t, "P5: events is emptied first", func(t *testing.T, p *epore.Poll) {
		a, b := fixture.Pair(t)
		register(t, p, a, 1, epore.Readable)
		events := epore.NewEvents(4)
		b.Write("x")
		require.Len(t, next(t, p, events), 1)
		a.Drain()
		require.NoError(t, p.Poll(events, 0))
		require.Zero(t, events.Len())
		require.Empty(t, all(events))

		b.Write("x")
		require.Len(t, next(t, p, events), 1)
		a.Drain()
		require.NoError(t, p.Poll(events, time.Millisecond))
		require.Empty(t, all(events), "also after a timeout")
	})
}

// contract: D2
func TestToken_AnyValue(t *testing.T) {
	eachStrategy(t, "Token: all 64 bits are the caller's, no value is reserved", func(t *testing.T, p *epore.Poll) {
		a, b := fixture.Pair(t)
		b.Write("x")
		events := epore.NewEvents(1)
		for _, token := range []epore.Token{0, 1, math.MaxUint32, 1 << 32, 1 << 63, math.MaxUint64} {
			register(t, p, a, token, epore.Readable)
			require.Equal(t, token, next(t, p, events)[0].Token)
			require.NoError(t, p.Registry().Deregister(fd(a)))
			w := newWaker(t, p, token)
			require.NoError(t, w.Wake())
			require.Equal(t, token, next(t, p, events)[0].Token)
			require.NoError(t, w.Close())
		}
		c, d := fixture.Pair(t)
		d.Write("x")
		register(t, p, a, 7, epore.Readable)
		register(t, p, c, 7, epore.Readable)
		require.Equal(t, []epore.Token{7, 7}, tokens(t, p), "nothing asks that tokens differ")
	})
}

// contract: E3
func TestPoll_EventsWithoutRoom(t *testing.T) {
	p := open(t)
	require.Equal(t, 1, epore.NewEvents(0).Cap())
	require.Equal(t, 1, epore.NewEvents(-5).Cap())
	require.Equal(t, 9, epore.NewEvents(9).Cap())
	for _, events := range []*epore.Events{nil, {}} {
		err := p.Poll(events, 0)
		require.ErrorIs(t, err, fs.ErrInvalid)
		require.ErrorContains(t, err, "NewEvents")
	}
	require.Empty(t, all(&epore.Events{}), "the zero Events has no events")
}

// contract: P7
func TestPoll_SecondIsBusy(t *testing.T) {
	eachStrategy(t, "P7: a second concurrent Poll gets ErrBusy at once, and the first is not disturbed", func(t *testing.T, p *epore.Poll) {
		a, b := fixture.Pair(t)
		register(t, p, a, 1, epore.Readable)
		events := epore.NewEvents(4)
		first := make(chan error)
		go func() {
			err := p.Poll(events, forever)
			for errors.Is(err, epore.ErrBusy) { // the other one was in, with its zero timeout
				err = p.Poll(events, forever)
			}
			first <- err
		}()
		second := epore.NewEvents(4)
		for {
			// Nothing is ready, so these return until the other one is inside.
			err := p.Poll(second, 0)
			if err != nil {
				require.ErrorIs(t, err, epore.ErrBusy)
				break
			}
			runtime.Gosched()
		}
		for range 100 {
			require.ErrorIs(t, p.Poll(second, forever), epore.ErrBusy)
			require.ErrorIs(t, p.PollContext(t.Context(), second), epore.ErrBusy)
			require.ErrorIs(t, p.Poll(events, 0), epore.ErrBusy, "even with the same Events")
		}
		select {
		case err := <-first:
			t.Fatalf("the first Poll ended: %v", err)
		default:
		}
		b.Write("x")
		require.NoError(t, <-first)
		require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, all(events))
	})
}

// contract: P9
func TestClose_EndsPoll(t *testing.T) {
	for _, s := range []epore.Strategy{epore.Park, epore.Block} {
		for _, timeout := range []time.Duration{forever, time.Hour, 1900 * time.Microsecond} {
			t.Run(s.String()+" "+timeout.String(), func(t *testing.T) {
				guard(t, "P9: a Poll in progress returns ErrClosed, and errors.Is(err, net.ErrClosed) holds")
				for range 100 {
					p := open(t, epore.WithStrategy(s))
					result := asleep(p, func() error {
						events := epore.NewEvents(4)
						err := p.Poll(events, timeout)
						if err == nil && timeout < time.Second { // it was over first
							err = p.Poll(events, forever)
						}
						return err
					})
					require.NoError(t, p.Close())
					err := <-result
					require.ErrorIs(t, err, epore.ErrClosed)
					require.ErrorIs(t, err, net.ErrClosed)
				}
			})
		}
	}
}

// contract: P9
func TestClose_Twice(t *testing.T) {
	eachStrategy(t, "P9: Close may be called more than once", func(t *testing.T, p *epore.Poll) {
		require.NoError(t, p.Close())
		require.NoError(t, p.Close())
	})
}

// contract: P9
func TestRegister_AfterClose(t *testing.T) {
	eachStrategy(t, "P9: after Close, Register returns ErrClosed", func(t *testing.T, p *epore.Poll) {
		a, _ := fixture.Pair(t)
		require.NoError(t, p.Close())
		err := p.Registry().Register(fd(a), 1, epore.Readable)
		require.ErrorIs(t, err, epore.ErrClosed)
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

// contract: S1
func TestWaker_AfterPollClosed(t *testing.T) {
	eachStrategy(t, "P9: after Close, Wake returns ErrClosed", func(t *testing.T, p *epore.Poll) {
		w := newWaker(t, p, 1)
		require.NoError(t, w.Wake())
		require.NoError(t, p.Close())
		require.ErrorIs(t, w.Wake(), epore.ErrClosed)
		require.NoError(t, w.Close())
	})
}

// contract: P9
func TestPoll_MethodsAfterClose(t *testing.T) {
	eachStrategy(t, "P9: Close may be called more than once; everything after it returns ErrClosed", func(t *testing.T, p *epore.Poll) {
		a, _ := fixture.Pair(t)
		b, _ := fixture.Pair(t)
		register(t, p, a, 1, epore.Readable)
		w, m, timer := newWaker(t, p, 2), newMailbox[int](t, p, 2), newTimer(t, p, 2)
		clone, err := p.Registry().TryClone()
		require.NoError(t, err)
		events := epore.NewEvents(4)
		require.NoError(t, p.Poll(events, 3*time.Millisecond)) // it has parked once

		require.NoError(t, p.Close())
		require.NoError(t, p.Close())

		_, cloneErr := clone.TryClone()
		_, wakerErr := epore.NewWaker(clone, 3)
		_, mailboxErr := epore.NewMailbox[int](clone, 3)
		_, timerErr := epore.NewTimer(clone, 3)
		for what, err := range map[string]error{
			"Poll":        p.Poll(events, 0),
			"PollContext": p.PollContext(t.Context(), events),
			"Register":    p.Registry().Register(fd(b), 1, epore.Readable),
			"Reregister":  p.Registry().Reregister(fd(a), 1, epore.Readable),
			"Deregister":  p.Registry().Deregister(fd(a)),
			"clone":       clone.Register(fd(b), 1, epore.Readable),
			"TryClone":    cloneErr,
			"NewWaker":    wakerErr,
			"Wake":        w.Wake(),
			"NewMailbox":  mailboxErr,
			"Send":        m.Send(1),
			"NewTimer":    timerErr,
			"Reset":       timer.Reset(1),
		} {
			assert.ErrorIs(t, err, epore.ErrClosed, what)
			assert.ErrorIs(t, err, net.ErrClosed, what)
			assert.NotErrorIs(t, err, fs.ErrNotExist, what)
		}
		require.NoError(t, w.Close())
		require.NoError(t, m.Close())
		require.NoError(t, timer.Close())
		require.NoError(t, clone.Close())
	})
}

// contract: P9
func TestClose_Concurrent(t *testing.T) {
	eachStrategy(t, "P9: Close may be called at any time", func(t *testing.T, _ *epore.Poll) {
		for range 200 {
			s := epore.Block
			if t.Name()[len(t.Name())-4:] == "Park" {
				s = epore.Park
			}
			p := open(t, epore.WithStrategy(s))
			w := newWaker(t, p, 1)
			a, _ := fixture.Pair(t)
			var all sync.WaitGroup
			closedOr := func(err error) {
				if err != nil {
					assert.ErrorIs(t, err, epore.ErrClosed)
				}
			}
			all.Go(func() {
				events := epore.NewEvents(4)
				for {
					if err := p.Poll(events, forever); err != nil {
						closedOr(err)
						return
					}
				}
			})
			all.Go(func() { closedOr(w.Wake()) })
			all.Go(func() { closedOr(p.Registry().Register(fd(a), 1, epore.Readable|edge(p))) })
			for range 2 {
				all.Go(func() { assert.NoError(t, p.Close()) })
			}
			all.Wait()
			a.Close()
		}
	})
}

// contract: P12
func TestPoll_PanicInTheLoop(t *testing.T) {
	eachStrategy(t, "P12: a panic in the loop body, or a break out of All, leaves the Poll usable", func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(8)
		for token := range epore.Token(3) {
			a, b := fixture.Pair(t)
			b.Write("x")
			register(t, p, a, token, epore.Readable)
		}
		require.Len(t, next(t, p, events), 3)
		require.PanicsWithValue(t, "in the loop", func() {
			for range events.All() {
				panic("in the loop")
			}
		})
		for range events.All() {
			break
		}
		require.Len(t, all(events), 3, "All can be called again")
		require.Len(t, next(t, p, events), 3)
		require.NoError(t, p.Poll(events, 0))
	})
}

// contract: P9
func TestPoll_LeaksNothing(t *testing.T) {
	guard(t, "P9, R13: a closed Poll leaves no descriptor behind")
	limit := min(fixture.DescriptorLimit(t), 4096)
	open(t).Close()
	before := fixture.OpenDescriptors(limit)
	events := epore.NewEvents(1)
	for i := range 2000 {
		s := epore.Park
		if i%3 == 0 {
			s = epore.Block
		}
		p, err := queuetest.Open(epore.WithStrategy(s))
		require.NoError(t, err)
		if i%50 < 2 {
			require.NoError(t, p.Poll(events, 3*time.Millisecond)) // parks, or blocks
		}
		require.NoError(t, p.Close())
	}
	require.Equal(t, before, fixture.OpenDescriptors(limit))
}

// contract: E2
func TestNew_FailsWithoutLeaks(t *testing.T) {
	guard(t, "E2: opening a queue that the system refuses names the likely cause and what to do; E4")
	open(t).Close()
	limit := min(fixture.DescriptorLimit(t), 4096)
	before := fixture.OpenDescriptors(limit)
	// A Poll needs a few descriptors. With each smaller number of free ones, another step of
	// opening fails.
	failed := 0
	for free := range 6 {
		var keep []*fixture.End
		for range free {
			f, other := fixture.Pair(t)
			other.Close()
			keep = append(keep, f)
		}
		restore := fixture.LowerDescriptorLimit(t)
		for _, f := range keep {
			f.Close()
		}
		p, err := queuetest.Open()
		restore()
		if err == nil {
			require.NoError(t, p.Close())
			continue
		}
		failed++
		require.ErrorIs(t, err, syscall.EMFILE)
		var op *epore.OpError
		require.ErrorAs(t, err, &op)
		require.Equal(t, "open", op.Op)
		require.Contains(t, err.Error(), "ulimit -n")
		require.Equal(t, before, fixture.OpenDescriptors(limit), "with %d free", free)
	}
	require.Positive(t, failed, "no descriptor was free, and yet New worked")
}

func TestPoll_DescriptorsAreNotInherited(t *testing.T) {
	guard(t, "every descriptor of a queue is close-on-exec")
	limit := min(fixture.DescriptorLimit(t), 4096)
	before := fixture.Descriptors(limit)
	p := open(t)
	require.NoError(t, p.Poll(epore.NewEvents(1), 3*time.Millisecond)) // it has parked
	found := 0
	for fd, inherited := range fixture.Descriptors(limit) {
		if _, was := before[fd]; !was {
			found++
			assert.False(t, inherited, "fd %d", fd)
		}
	}
	require.Positive(t, found)
}

// contract: P11
func TestPoll_ReportsWhatItIs(t *testing.T) {
	p := open(t)
	require.NotEmpty(t, p.Backend())
	require.True(t, p.Capabilities().Interests.Has(epore.Readable|epore.Writable))
	require.Same(t, p.Registry(), p.Registry())
	require.Equal(t, epore.Block, open(t, epore.WithStrategy(epore.Block)).Strategy())
	require.Equal(t, "Park", epore.Park.String())
	require.Equal(t, "Block", epore.Block.String())
	require.Equal(t, "token 7: Readable|ReadClosed", epore.Event{Token: 7, Ready: 1 | 16}.String())
	require.Equal(t, "Readable|Edge|OneShot", (epore.Readable | epore.Edge | epore.OneShot).String())
	require.Equal(t, "none", epore.Interest(0).String())
	require.Equal(t, "Writable|0xc0", (epore.Writable | 0xc0).String())
}
