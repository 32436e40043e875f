//go:build unix

package epore_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

const signalRule = "S4: an event per delivered signal kind, coalesced; which ones arrived can be asked; none is lost"

func newSignal(t testing.TB, p *epore.Poll, token epore.Token, sigs ...os.Signal) *epore.Signal {
	t.Helper()
	s, err := epore.NewSignal(p.Registry(), token, sigs...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// raise sends a signal to this process.
func raise(t testing.TB, sig syscall.Signal) {
	t.Helper()
	require.NoError(t, fixture.Raise(sig))
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

func TestSignal(t *testing.T) {
	eachStrategy(t, signalRule, func(t *testing.T, p *epore.Poll) {
		s := newSignal(t, p, 7, unix.SIGUSR1, unix.SIGUSR2)
		events := epore.NewEvents(4)
		require.Empty(t, ready(t, p, events))
		require.Empty(t, received(s))
		for range 20 {
			for _, sig := range []syscall.Signal{unix.SIGUSR1, unix.SIGUSR2} {
				raise(t, sig)
				require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, next(t, p, events))
				require.Equal(t, []os.Signal{sig}, received(s))
				require.Empty(t, received(s), "it is received")
				require.Empty(t, ready(t, p, events), "one event")
			}
		}
		for range 20 {
			polled := asleep(p, func() error { return p.Poll(events, forever) })
			raise(t, unix.SIGUSR1)
			require.NoError(t, <-polled)
			require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, all(events))
			require.Equal(t, []os.Signal{unix.SIGUSR1}, received(s))
		}
	})
}

// What was not received stays, and gives another event if a loop was left before it.
func TestSignalsThatAreLeft(t *testing.T) {
	eachStrategy(t, signalRule, func(t *testing.T, p *epore.Poll) {
		kinds := []os.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH}
		s := newSignal(t, p, 7, kinds...)
		events := epore.NewEvents(4)
		collected := func() (sigs []os.Signal) { // one for each event
			for len(sigs) < len(kinds) {
				require.Len(t, next(t, p, events), 1)
				for sig := range s.Received() {
					sigs = append(sigs, sig)
					break
				}
			}
			return sigs
		}
		for range 20 {
			for _, sig := range []syscall.Signal{unix.SIGWINCH, unix.SIGUSR1, unix.SIGUSR2} {
				raise(t, sig)
				require.Len(t, next(t, p, events), 1, "an event that nobody asks about")
			}
			raise(t, unix.SIGUSR1)
			require.Equal(t, kinds, collected(), "in their order")
			// The second SIGUSR1 may have come to the end of the others, or not.
			require.Subset(t, []os.Signal{unix.SIGUSR1}, received(s))
			ready(t, p, events)
		}
		arrived(t, s, unix.SIGUSR1)
		next(t, p, events)
		raise(t, unix.SIGUSR2)
		next(t, p, events)
		require.Panics(t, func() {
			for range s.Received() {
				panic("in the loop")
			}
		})
		require.Len(t, next(t, p, events), 1)
		require.Equal(t, []os.Signal{unix.SIGUSR2}, received(s))
	})
}

// Every signal is followed by an event by which its kind is received, however many
// of other kinds come: what was counted before the last one was sent is seen.
func TestNoKindOfSignalIsLost(t *testing.T) {
	eachStrategy(t, signalRule, func(t *testing.T, p *epore.Poll) {
		rounds := 100
		if backendtest.Long() {
			rounds = 10_000
		}
		// The first ones drown the last one, of which each is waited for.
		flood := []syscall.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGIO}
		const rare = unix.SIGHUP
		kinds := []os.Signal{rare}
		for _, sig := range flood {
			kinds = append(kinds, sig)
		}
		s := newSignal(t, p, 7, kinds...)
		var stop atomic.Bool
		var sent [len(signalNumbers)]atomic.Int64
		send := func(sig syscall.Signal) {
			sent[sig].Add(1)
			assert.NoError(t, fixture.Raise(sig))
		}
		var flooding sync.WaitGroup
		for _, sig := range flood {
			flooding.Go(func() {
				for !stop.Load() {
					send(sig)
					runtime.Gosched()
				}
			})
		}
		var seen [len(signalNumbers)]int64
		events := epore.NewEvents(4)
		receive := func() {
			require.Len(t, next(t, p, events), 1)
			twice := make(map[os.Signal]bool)
			for sig := range s.Received() {
				require.False(t, twice[sig])
				twice[sig] = true
				seen[sig.(syscall.Signal)] = sent[sig.(syscall.Signal)].Load()
			}
		}
		for range rounds {
			send(rare)
			for seen[rare] < sent[rare].Load() {
				receive()
			}
		}
		stop.Store(true)
		flooding.Wait()
		for _, sig := range flood {
			for seen[sig] < sent[sig].Load() {
				receive()
			}
		}
	})
}

// heldUp is a backend that takes its time to wake.
type heldUp struct {
	*backendtest.Fake
	once           sync.Once
	entered, leave chan struct{}
}

func (h *heldUp) Wake() error {
	h.once.Do(func() { close(h.entered) })
	<-h.leave
	return h.Fake.Wake()
}

// os/signal does not wait for who receives: what it finds no room for is gone.
func TestSignalsBesideASlowWake(t *testing.T) {
	guard(t, signalRule)
	b := &heldUp{Fake: backendtest.NewFake(), entered: make(chan struct{}), leave: make(chan struct{})}
	p, err := epore.NewWith(b)
	require.NoError(t, err)
	defer p.Close()
	s := newSignal(t, p, 7, unix.SIGUSR1, unix.SIGUSR2, unix.SIGHUP)
	events := epore.NewEvents(1)
	polled := asleep(p, func() error { return p.Poll(events, forever) })
	raise(t, unix.SIGUSR1)
	<-b.entered // the goroutine of s is there

	// Signals are handed out one after the other, each to all who asked. So when the
	// second one is here, s has got the first one, or not.
	handed := make(chan os.Signal, 1)
	signal.Notify(handed, unix.SIGWINCH)
	defer signal.Stop(handed)
	for _, sig := range []syscall.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGHUP} {
		for range 10 {
			raise(t, sig)
			raise(t, unix.SIGWINCH)
			<-handed
		}
	}
	close(b.leave)
	require.NoError(t, <-polled)
	seen := make(map[os.Signal]bool)
	for {
		for sig := range s.Received() {
			seen[sig] = true
		}
		if len(seen) == 3 {
			break
		}
		next(t, p, events)
	}
}

// signalNumbers has the length that an array by number needs.
var signalNumbers [65]struct{}

func TestSignalsOfManyPolls(t *testing.T) {
	eachStrategy(t, "S4: several Signals may ask for the same signal: each gets it", func(t *testing.T, p *epore.Poll) {
		q := open(t, epore.WithStrategy(p.Strategy()))
		s, twin, other := newSignal(t, p, 1, unix.SIGUSR1, unix.SIGUSR1), newSignal(t, p, 2, unix.SIGUSR1), newSignal(t, q, 3, unix.SIGUSR2, unix.SIGUSR1)
		c := make(chan os.Signal, 1)
		signal.Notify(c, unix.SIGUSR1)
		defer signal.Stop(c)
		raise(t, unix.SIGUSR1)
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
			require.Equal(t, []os.Signal{unix.SIGUSR1}, received(s))
		}
		require.Equal(t, unix.SIGUSR1, <-c)

		require.NoError(t, s.Close())
		raise(t, unix.SIGUSR1)
		require.Equal(t, epore.Token(2), next(t, p, events)[0].Token, "one that is closed takes nothing from the others")
		require.Equal(t, epore.Token(3), next(t, q, events)[0].Token)
		require.Equal(t, unix.SIGUSR1, <-c)
		require.Empty(t, received(s))
	})
}

func TestClosedSignal(t *testing.T) {
	eachStrategy(t, "S4, R6: a closed Signal is silent, also in the batch in hand, and leaves no goroutine", func(t *testing.T, p *epore.Poll) {
		catchAll(t)
		s := newSignal(t, p, 1, unix.SIGUSR1)
		arrived(t, s, unix.SIGUSR1)
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		raise(t, unix.SIGUSR1)
		require.Empty(t, tokens(t, p), "closed before the Poll")
		require.Equal(t, []os.Signal{unix.SIGUSR1}, received(s), "what is left")

		s = newSignal(t, p, 2, unix.SIGUSR1)
		w := newWaker(t, p, 3)
		events := epore.NewEvents(4)
		for range 2 { // whichever comes first in the batch
			s := newSignal(t, p, 2, unix.SIGUSR1)
			require.NoError(t, w.Wake())
			raise(t, unix.SIGUSR1)
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
			s, err := epore.NewSignal(p.Registry(), 5, unix.SIGUSR1, unix.SIGUSR2)
			require.NoError(t, err)
			for range 3 {
				closing.Go(func() { assert.NoError(t, s.Close()) })
			}
			closing.Go(func() { _ = fixture.Raise(unix.SIGUSR2) })
			closing.Wait()
		}
		require.NotContains(t, tokens(t, p), epore.Token(5))
		awaitNoGoroutine("epore.(*Signal)")
	})
}

func TestSignalsAfterThePollsClose(t *testing.T) {
	eachStrategy(t, "S4: a Poll's Close closes its Signals, too; afterwards they answer ErrClosed", func(t *testing.T, p *epore.Poll) {
		catchAll(t)
		q, err := openQueue(epore.WithStrategy(p.Strategy()))
		require.NoError(t, err)
		s, err := epore.NewSignal(q.Registry(), 1, unix.SIGUSR1)
		require.NoError(t, err)
		var working sync.WaitGroup
		working.Go(func() {
			for range 100 {
				assert.NoError(t, fixture.Raise(unix.SIGUSR1))
			}
		})
		working.Go(func() {
			for q.Poll(epore.NewEvents(1), forever) == nil {
			}
		})
		working.Go(func() { // made beside the closing, it is refused, or closed with the others
			for {
				if _, err := epore.NewSignal(q.Registry(), 1, unix.SIGUSR2); err != nil {
					assert.ErrorIs(t, err, epore.ErrClosed)
					return
				}
			}
		})
		require.NoError(t, q.Close())
		working.Wait()
		awaitNoGoroutine("epore.(*Signal)")
		require.NoError(t, s.Close())
		_, err = epore.NewSignal(q.Registry(), 1, unix.SIGUSR1)
		require.ErrorIs(t, err, epore.ErrClosed)
		raise(t, unix.SIGUSR1)
	})
}

// catchAll keeps the signals of these tests from ending the program while nobody
// else asks for them.
func catchAll(t *testing.T) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGUSR1, unix.SIGUSR2)
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

func TestSignalsThatCannotBe(t *testing.T) {
	guard(t, "S4, E1: what cannot be had is refused, and the error says why")
	p := open(t)
	for _, c := range []struct {
		sigs []os.Signal
		why  string
	}{
		{nil, "it names no signal"},
		{[]os.Signal{unix.SIGUSR1, os.Kill}, "killed cannot be caught by any program"},
		{[]os.Signal{unix.SIGSTOP}, "cannot be caught"},
		{[]os.Signal{nil}, "no signal of this system"},
		{[]os.Signal{oddSignal{}}, "oddSignal"},
		{[]os.Signal{syscall.Signal(0)}, "no signal of this system"},
		{[]os.Signal{syscall.Signal(-1)}, "no signal of this system"},
		{[]os.Signal{syscall.Signal(65)}, "no signal of this system"},
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

// When nobody asks for a signal any more, it does again what it did.
func TestSignalsAreRestored(t *testing.T) {
	const env = "EPORE_RESTORE"
	if os.Getenv(env) != "" {
		p := open(t)
		s := newSignal(t, p, 1, unix.SIGTERM, unix.SIGHUP)
		raise(t, unix.SIGTERM)
		next(t, p, epore.NewEvents(1))
		require.NoError(t, s.Close())
		raise(t, unix.SIGHUP) // ignored since before this program began
		raise(t, unix.SIGTERM)
		select {} // which ends it
	}
	guard(t, "S4: Close restores what the signals did before")
	// sh, to begin with a signal that is ignored.
	child := exec.Command("sh", "-c", `trap "" HUP; exec "$0" "$@"`, os.Args[0], "-test.run=^TestSignalsAreRestored$", "-test.timeout=1m")
	child.Env = append(os.Environ(), env+"=1")
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	status := exit.Sys().(syscall.WaitStatus)
	require.True(t, status.Signaled(), "%v: %s", err, out)
	require.Equal(t, unix.SIGTERM, status.Signal())
}

func TestSignalsAndSocketsShareLittleRoom(t *testing.T) {
	eachStrategy(t, "S6: with capacity 1 and an always-ready socket, a signal arrives within two Polls; and signals do not starve sockets", func(t *testing.T, p *epore.Poll) {
		a, b := fixture.Pair(t)
		b.Write("x")
		register(t, p, a, 1, epore.Readable)
		s := newSignal(t, p, 2, unix.SIGUSR1)
		events := epore.NewEvents(1)
		for range 50 {
			arrived(t, s, unix.SIGUSR1)
			p.AwaitPosted(1)
			first, second := next(t, p, events)[0].Token, next(t, p, events)[0].Token
			require.ElementsMatch(t, []epore.Token{1, 2}, []epore.Token{first, second})
			require.Equal(t, []os.Signal{unix.SIGUSR1}, received(s))
		}
	})
}
