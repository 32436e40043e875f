//go:build unix

package epore_test

import (
	"os"
	"os/exec"
	"os/signal"
	"runtime"
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

// Signals to test with.
const (
	sig1 = unix.SIGUSR1
	sig2 = unix.SIGUSR2
	// uncatchable is one besides os.Kill that no program can catch.
	uncatchable = unix.SIGSTOP
)

// raise sends a signal to this process.
func raise(t testing.TB, sig syscall.Signal) {
	t.Helper()
	assert.NoError(t, fixture.Raise(sig)) // from any goroutine
}

// What was not received stays, and gives another event if a loop was left before it.
// contract: S4
func TestSignal_LoopLeftEarly(t *testing.T) {
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
				require.Len(t, next(t, p, events), 1, "an event without a call of Received")
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

// Every signal is followed by an event with which its kind is received, however many signals
// of other kinds come.
// contract: S4
func TestSignal_NoKindIsLost(t *testing.T) {
	eachStrategy(t, signalRule, func(t *testing.T, p *epore.Poll) {
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
		for range backendtest.Rounds(t, 100, 10_000) {
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

// heldUp is a backend whose Wake is slow.
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

// os/signal does not wait for the receiver: a signal that finds no room is lost.
// contract: S4
func TestSignal_SlowWake(t *testing.T) {
	guard(t, signalRule)
	b := &heldUp{Fake: backendtest.NewFake(), entered: make(chan struct{}), leave: make(chan struct{})}
	p, err := epore.NewWith(b)
	require.NoError(t, err)
	defer p.Close()
	s := newSignal(t, p, 7, unix.SIGUSR1, unix.SIGUSR2, unix.SIGHUP)
	events := epore.NewEvents(1)
	polled := asleep(p, func() error { return p.Poll(events, forever) })
	raise(t, unix.SIGUSR1)
	<-b.entered // the goroutine of s has come to its Wake

	// Signals are handed out one after the other, each to all that subscribed. So when the
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

// When nothing is subscribed to a signal any more, it has its previous effect again.
// contract: S4
func TestSignal_DefaultIsRestored(t *testing.T) {
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
	// sh, so that the program starts with an ignored signal.
	child := exec.Command("sh", "-c", `trap "" HUP; exec "$0" "$@"`, os.Args[0], "-test.run=^TestSignal_DefaultIsRestored$", "-test.timeout=1m")
	child.Env = append(os.Environ(), env+"=1")
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	status := exit.Sys().(syscall.WaitStatus)
	require.True(t, status.Signaled(), "%v: %s", err, out)
	require.Equal(t, unix.SIGTERM, status.Signal())
}
