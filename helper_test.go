//go:build unix || windows

package epore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
)

const forever = epore.Forever

// open returns a Poll that is closed when the test ends.
func open(t testing.TB, opts ...epore.Option) *epore.Poll {
	t.Helper()
	p, err := queuetest.Open(opts...)
	skipWithout(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// skipWithout skips a test if err says that the queue is not available here.
func skipWithout(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("no such queue here: %v", err)
	}
	require.NoError(t, err)
}

// eachStrategy runs a test with both strategies, under a watchdog that prints the rule.
func eachStrategy(t *testing.T, rule string, run func(t *testing.T, p *epore.Poll)) {
	for _, s := range []epore.Strategy{epore.Park, epore.Block} {
		t.Run(s.String(), func(t *testing.T) {
			guard(t, rule)
			run(t, open(t, epore.WithStrategy(s)))
		})
	}
}

// guard ends a test that hangs, and prints the rule when it fails.
func guard(t *testing.T, rule string) {
	stop := backendtest.Watchdog(t, rule)
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("the broken rule: %s", rule)
		}
	})
}

// asleep runs a Poll of some kind in a new goroutine and returns when it sleeps or has ended.
// Its result comes through the channel.
func asleep(p *epore.Poll, poll func() error) <-chan error {
	over, result := make(chan struct{}), make(chan error, 1)
	go func() {
		err := poll()
		close(over)
		result <- err
	}()
	p.AwaitSleep(over)
	return result
}

// next polls until there are events and returns them.
func next(t testing.TB, p *epore.Poll, events *epore.Events) []epore.Event {
	t.Helper()
	require.NoError(t, p.Poll(events, fixture.Soon))
	require.NotZero(t, events.Len(), "no event came")
	return all(events)
}

// atOnce is the timeout of a Poll that does not wait. Wine reports what is ready a moment
// later, through a thread of the test process.
func atOnce() time.Duration {
	if fixture.Wine {
		return 20 * time.Millisecond
	}
	return 0
}

// ready polls without waiting.
func ready(t testing.TB, p *epore.Poll, events *epore.Events) []epore.Event {
	t.Helper()
	require.NoError(t, p.Poll(events, atOnce()))
	return all(events)
}

func all(events *epore.Events) (list []epore.Event) {
	for ev := range events.All() {
		list = append(list, ev)
	}
	return list
}

// tokens polls without waiting and returns the tokens that came.
func tokens(t testing.TB, p *epore.Poll) (list []epore.Token) {
	t.Helper()
	for _, ev := range ready(t, p, epore.NewEvents(64)) {
		list = append(list, ev.Token)
	}
	return list
}

// fd returns an end as a Source.
func fd(e *fixture.End) epore.Source { return epore.FD(e.FD) }

func register(t testing.TB, p *epore.Poll, e *fixture.End, token epore.Token, in epore.Interest) {
	t.Helper()
	require.NoError(t, p.Registry().Register(fd(e), token, in))
}

// edge returns Edge, if the Poll supports it.
func edge(p *epore.Poll) epore.Interest { return epore.Edge & p.Capabilities().Interests }

func newWaker(t testing.TB, p *epore.Poll, token epore.Token) *epore.Waker {
	t.Helper()
	w, err := epore.NewWaker(p.Registry(), token)
	require.NoError(t, err)
	return w
}
