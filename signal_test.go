//go:build unix || windows

package epore_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
)

const signalRule = "S4: an event per delivered signal kind, coalesced; which ones arrived can be asked; none is lost"

func newSignal(t testing.TB, p *epore.Poll, token epore.Token, sigs ...os.Signal) *epore.Signal {
	t.Helper()
	s, err := epore.NewSignal(p.Registry(), token, sigs...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// arrived sends a signal and returns when s has it.
func arrived(t testing.TB, s *epore.Signal, sig syscall.Signal) {
	t.Helper()
	raise(t, sig)
	for !s.HasArrived() {
		runtime.Gosched()
	}
}

func received(s *epore.Signal) []os.Signal { return slices.Collect(s.Received()) }

// contract: S4
func TestSignal_Arrives(t *testing.T) {
	eachStrategy(t, signalRule, func(t *testing.T, p *epore.Poll) {
		s := newSignal(t, p, 7, sig1, sig2)
		events := epore.NewEvents(4)
		require.Empty(t, ready(t, p, events))
		require.Empty(t, received(s))
		for range 20 {
			for _, sig := range []syscall.Signal{sig1, sig2} {
				raise(t, sig)
				require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, next(t, p, events))
				require.Equal(t, []os.Signal{sig}, received(s))
				require.Empty(t, received(s), "it is received")
				require.Empty(t, ready(t, p, events), "one event")
			}
		}
		for range 20 {
			polled := asleep(p, func() error { return p.Poll(events, forever) })
			raise(t, sig1)
			require.NoError(t, <-polled)
			require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, all(events))
			require.Equal(t, []os.Signal{sig1}, received(s))
		}
	})
}

// contract: S4
func TestSignal_ManyPolls(t *testing.T) {
	eachStrategy(t, "S4: several Signals may ask for the same signal: each gets it", func(t *testing.T, p *epore.Poll) {
		q := open(t, epore.WithStrategy(p.Strategy()))
		s, twin, other := newSignal(t, p, 1, sig1, sig1), newSignal(t, p, 2, sig1), newSignal(t, q, 3, sig2, sig1)
		c := make(chan os.Signal, 1)
		signal.Notify(c, sig1)
		defer signal.Stop(c)
		raise(t, sig1)
		events := epore.NewEvents(4)
		var of []epore.Token
		for len(of) < 2 {
			for _, ev := range next(t, p, events) {
				of = append(of, ev.Token)
			}
		}
		require.ElementsMatch(t, []epore.Token{1, 2}, of)
		require.Equal(t, epore.Token(3), next(t, q, events)[0].Token)
		for _, s := range []*epore.Signal{s, twin, other} {
			require.Equal(t, []os.Signal{sig1}, received(s))
		}
		require.Equal(t, sig1, <-c)

		require.NoError(t, s.Close())
		raise(t, sig1)
		require.Equal(t, epore.Token(2), next(t, p, events)[0].Token, "one that is closed takes nothing from the others")
		require.Equal(t, epore.Token(3), next(t, q, events)[0].Token)
		require.Equal(t, sig1, <-c)
		require.Empty(t, received(s))
	})
}

// contract: S4
func TestSignal_Closed(t *testing.T) {
	eachStrategy(t, "S4, R6: a closed Signal is silent, also in the batch in hand, and leaves no goroutine", func(t *testing.T, p *epore.Poll) {
		catchAll(t)
		s := newSignal(t, p, 1, sig1)
		arrived(t, s, sig1)
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		raise(t, sig1)
		require.Empty(t, tokens(t, p), "closed before the Poll")
		require.Equal(t, []os.Signal{sig1}, received(s), "what is left")

		s = newSignal(t, p, 2, sig1)
		w := newWaker(t, p, 3)
		events := epore.NewEvents(4)
		for range 2 { // whichever comes first in the batch
			s := newSignal(t, p, 2, sig1)
			require.NoError(t, w.Wake())
			raise(t, sig1)
			for !s.HasArrived() {
				runtime.Gosched()
			}
			require.NoError(t, p.Poll(events, fixture.Soon))
			for ev := range events.All() {
				require.NotEqual(t, epore.Token(4), ev.Token)
				require.NoError(t, s.Close(), "in the loop")
			}
		}
		require.NoError(t, s.Close())
		awaitNoGoroutine("epore.(*Signal)")

		var closing sync.WaitGroup
		for range 20 {
			s, err := epore.NewSignal(p.Registry(), 5, sig1, sig2)
			require.NoError(t, err)
			for range 3 {
				closing.Go(func() { assert.NoError(t, s.Close()) })
			}
			closing.Go(func() { raise(t, sig2) })
			closing.Wait()
		}
		require.NotContains(t, tokens(t, p), epore.Token(5))
		awaitNoGoroutine("epore.(*Signal)")
	})
}

// contract: P9, S4
func TestSignal_PollClosed(t *testing.T) {
	eachStrategy(t, "S4: a Poll's Close closes its Signals, too; afterwards they answer ErrClosed", func(t *testing.T, p *epore.Poll) {
		catchAll(t)
		q, err := queuetest.Open(epore.WithStrategy(p.Strategy()))
		require.NoError(t, err)
		s, err := epore.NewSignal(q.Registry(), 1, sig1)
		require.NoError(t, err)
		var working sync.WaitGroup
		working.Go(func() {
			for range 100 {
				raise(t, sig1)
			}
		})
		working.Go(func() {
			for q.Poll(epore.NewEvents(1), forever) == nil {
			}
		})
		working.Go(func() { // created concurrently with the Close, it is refused or closed with the others
			for {
				if _, err := epore.NewSignal(q.Registry(), 1, sig2); err != nil {
					assert.ErrorIs(t, err, epore.ErrClosed)
					return
				}
			}
		})
		require.NoError(t, q.Close())
		working.Wait()
		awaitNoGoroutine("epore.(*Signal)")
		require.NoError(t, s.Close())
		_, err = epore.NewSignal(q.Registry(), 1, sig1)
		require.ErrorIs(t, err, epore.ErrClosed)
		raise(t, sig1)
	})
}

// catchAll keeps the signals of these tests from ending the program while nothing
// else is subscribed to them.
func catchAll(t *testing.T) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, sig1, sig2)
	t.Cleanup(func() { signal.Stop(c) })
}

// awaitNoGoroutine returns when no goroutine is in a function: one that has said
// that it ends may need a moment for it.
func awaitNoGoroutine(function string) {
	buf := make([]byte, 1<<22)
	for bytes.Contains(buf[:runtime.Stack(buf, true)], []byte(function)) {
		runtime.Gosched()
	}
}

// contract: S4
func TestSignal_Invalid(t *testing.T) {
	guard(t, "S4, E1: an invalid signal is refused, and the error says why")
	p := open(t)
	for _, c := range []struct {
		sigs []os.Signal
		why  string
	}{
		{nil, "no signal is named"},
		{[]os.Signal{sig1, os.Kill}, "killed cannot be caught by any program"},
		{[]os.Signal{uncatchable}, "cannot be caught"},
		{[]os.Signal{nil}, "not a signal of this system"},
		{[]os.Signal{oddSignal{}}, "oddSignal"},
		{[]os.Signal{syscall.Signal(0)}, "not a signal of this system"},
		{[]os.Signal{syscall.Signal(-1)}, "not a signal of this system"},
		{[]os.Signal{syscall.Signal(65)}, "not a signal of this system"},
	} {
		_, err := epore.NewSignal(p.Registry(), 1, c.sigs...)
		require.ErrorIs(t, err, fs.ErrInvalid)
		require.ErrorContains(t, err, "register a Signal of ")
		require.ErrorContains(t, err, c.why)
	}
	awaitNoGoroutine("epore.(*Signal)")
	require.Zero(t, p.Slots(), "a refusal leaves nothing behind")
}

// oddSignal is an os.Signal of somebody else, that cannot even be compared.
type oddSignal struct{ _ []int }

func (oddSignal) Signal()        {}
func (oddSignal) String() string { return "odd" }

// contract: S6
func TestSignal_SharesLittleRoom(t *testing.T) {
	eachStrategy(t, "S6: with capacity 1 and an always-ready socket, a signal arrives within two Polls; and signals do not starve sockets", func(t *testing.T, p *epore.Poll) {
		a, b := fixture.Pair(t)
		b.Write("x")
		register(t, p, a, 1, epore.Readable)
		s := newSignal(t, p, 2, sig1)
		events := epore.NewEvents(1)
		for range 50 {
			arrived(t, s, sig1)
			p.AwaitPosted(1)
			first, second := next(t, p, events)[0].Token, next(t, p, events)[0].Token
			require.ElementsMatch(t, []epore.Token{1, 2}, []epore.Token{first, second})
			require.Equal(t, []os.Signal{sig1}, received(s))
		}
	})
}

// Close stops the delivery while signals still wait in the channels. Received yields them
// afterwards.
// contract: S4
func TestSignal_CloseKeepsWhatHasArrived(t *testing.T) {
	eachStrategy(t, "S4: no signal that arrived before Close is lost", func(t *testing.T, p *epore.Poll) {
		kinds := []os.Signal{os.Interrupt}
		for range 1000 {
			s := newSignal(t, p, 7, kinds...)
			s.Deliver()
			require.NoError(t, s.Close())
			require.Equal(t, kinds, slices.Collect(s.Received()))
		}
		for range 100 {
			other, err := queuetest.Open(epore.WithStrategy(p.Strategy()))
			require.NoError(t, err)
			s := newSignal(t, other, 7, kinds...)
			s.Deliver()
			require.NoError(t, other.Close())
			require.Equal(t, kinds, slices.Collect(s.Received()))
		}
	})
}
