//go:build unix || windows

package epore_test

import (
	"context"
	"errors"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
)

// P10: no allocation in the steady state. A call that fails would allocate its error, so
// these tests also check that the calls succeed.

func noAllocs(t *testing.T, what string, atMost float64, f func() error) {
	t.Helper()
	var failed error
	n := math.Inf(1)
	// The count is that of the whole process: the runtime, and goroutines that are just
	// ending, allocate concurrently with f. f allocates the same each time, so the lowest
	// count is that of f.
	for attempt := 0; n > atMost && attempt < 5; attempt++ {
		n = min(n, testing.AllocsPerRun(30, func() {
			if err := f(); err != nil {
				failed = err
			}
		}))
	}
	require.NoError(t, failed, what)
	if runtime.GOOS == "linux" && strings.HasPrefix(os.Getenv(queuetest.Env), "kqueue") {
		t.Skip("the simulated kernel allocates; the backend has a test for this")
	}
	require.LessOrEqual(t, n, atMost, "P10: allocations of %s", what)
}

// contract: P10
func TestAllocs_SteadyState(t *testing.T) {
	eachStrategy(t, "P10: no allocation in the steady state", func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(64)
		r := p.Registry()
		for i := range 64 {
			a, b := fixture.Pair(t)
			b.Write("x")
			register(t, p, a, epore.Token(i), epore.Readable)
		}
		sum := epore.Token(0)
		noAllocs(t, "a Poll with 64 events, and the loop over them", 0, func() error {
			err := p.Poll(events, forever)
			for ev := range events.All() {
				if ev.Readable() {
					sum += ev.Token
				}
			}
			return err
		})
		require.NotZero(t, sum)

		quiet := open(t, epore.WithStrategy(p.Strategy()))
		for _, timeout := range []time.Duration{0, 10 * time.Microsecond, 3 * time.Millisecond} {
			noAllocs(t, "a Poll that times out after "+timeout.String(), 0, func() error {
				return quiet.Poll(events, timeout)
			})
		}
		w := newWaker(t, quiet, 1)
		noAllocs(t, "a wake, one that coalesces, and their Poll", 0, func() error {
			_ = w.Wake()
			_ = w.Wake()
			return quiet.Poll(events, forever)
		})
		m, timer := newMailbox[*epore.Poll](t, quiet, 2), newTimer(t, quiet, 3)
		received := 0
		noAllocs(t, "sends, their Poll, and receiving", 0, func() error {
			for range 100 {
				if err := m.Send(p); err != nil {
					return err
				}
			}
			err := quiet.Poll(events, forever)
			m.Receive()
			for range m.All() {
				received++
			}
			return err
		})
		require.NotZero(t, received)
		noAllocs(t, "a timer set, stopped, set and expiring", 0, func() error {
			if err := timer.Every(time.Hour); err != nil || !timer.Stop() {
				return errors.Join(errSorry, err)
			}
			for _, d := range []time.Duration{0, 10 * time.Microsecond, 2500 * time.Microsecond} {
				if err := timer.Reset(d); err != nil {
					return err
				}
				if err := quiet.Poll(events, forever); err != nil || events.Len() != 1 || timer.Ticks() != 1 {
					return errors.Join(errSorry, err)
				}
			}
			return nil
		})
		full, err := epore.NewBoundedMailbox[int](quiet.Registry(), 4, 1)
		require.NoError(t, err)
		require.NoError(t, full.Send(1))
		noAllocs(t, "a send to a full mailbox", 0, func() error {
			if !errors.Is(full.Send(2), epore.ErrFull) {
				return errSorry
			}
			return nil
		})
		require.NoError(t, full.Close())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		noAllocs(t, "a PollContext with the same ctx", 0, func() error {
			_ = w.Wake()
			return quiet.PollContext(ctx, events)
		})

		a, _ := fixture.Pair(t)
		token := epore.Token(1 << 40)
		noAllocs(t, "Register, Reregister and Deregister of an FD", 0, func() error {
			if err := r.Register(epore.FD(a.FD), token, epore.Readable); err != nil {
				return err
			}
			if err := r.Reregister(epore.FD(a.FD), token, epore.Writable); err != nil {
				return err
			}
			return r.Deregister(epore.FD(a.FD))
		})
		far := a.Dup()
		const number = 700 // beyond the small integers that Go has ready-made
		for fixture.DescriptorLimit(t) > number+100 && far.FD < number {
			far = a.Dup()
		}
		noAllocs(t, "Register and Deregister of a large FD", 0, func() error {
			if err := r.Register(epore.FD(far.FD), token, epore.Readable); err != nil {
				return err
			}
			return r.Deregister(epore.FD(far.FD))
		})

		l := tcpLink(t)
		defer l.here.Close()
		defer l.there.Close()
		conn := l.here.(epore.Source)
		noAllocs(t, "Register and Deregister of a net.Conn", 3, func() error {
			if err := r.Register(conn, token, epore.Readable); err != nil {
				return err
			}
			return r.Deregister(conn)
		})
	})
}

// A parked Poll that another goroutine wakes by writing allocates nothing either.
// contract: P10
func TestAllocs_PingPong(t *testing.T) {
	eachStrategy(t, "P10: no allocation in the steady state", func(t *testing.T, p *epore.Poll) {
		q := open(t, epore.WithStrategy(p.Strategy()))
		a, b := fixture.Pair(t)
		register(t, p, a, 1, epore.Readable|edge(p))
		register(t, q, b, 2, epore.Readable|edge(p))
		echo := func(p *epore.Poll, events *epore.Events, e *fixture.End, buf []byte) error {
			if err := p.Poll(events, forever); err != nil {
				return err
			}
			for range events.All() {
				n, err := e.TryRead(buf)
				if err != nil {
					return err
				}
				if _, err := e.TryWrite(buf[:n]); err != nil {
					return err
				}
			}
			return nil
		}
		var echoing sync.WaitGroup
		echoing.Go(func() {
			events, buf := epore.NewEvents(4), make([]byte, 8)
			for echo(q, events, b, buf) == nil {
			}
		})
		defer func() { // before b's number is another test's
			require.NoError(t, q.Close())
			echoing.Wait()
		}()
		events, buf := epore.NewEvents(4), make([]byte, 8)
		a.Write("x")
		// TryRead and TryWrite allocate nothing, or this would fail.
		noAllocs(t, "a round trip between two Polls", 0, func() error { return echo(p, events, a, buf) })
	})
}
