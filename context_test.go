//go:build unix || windows

package epore_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

const contextRule = "P8: PollContext returns ctx.Err() once ctx is done, and starts no goroutine per call"

// contract: P8
func TestPollContext_Ends(t *testing.T) {
	eachStrategy(t, contextRule, func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(4)

		done, cancel := context.WithCancel(t.Context())
		cancel()
		require.Equal(t, context.Canceled, p.PollContext(done, events), "done before")

		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			ended := asleep(p, func() error { return p.PollContext(ctx, events) })
			cancel()
			require.Equal(t, context.Canceled, <-ended, "done while waiting")
		}

		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		require.Equal(t, context.DeadlineExceeded, p.PollContext(ctx, events))
		require.GreaterOrEqual(t, time.Since(begin), 20*time.Millisecond)
		require.Equal(t, context.DeadlineExceeded, p.PollContext(ctx, events), "and again")
	})
}

type contextKey struct{}

// contract: P8
func TestPollContext_Events(t *testing.T) {
	eachStrategy(t, contextRule, func(t *testing.T, p *epore.Poll) {
		a, b := fixture.Pair(t)
		register(t, p, a, 1, epore.Readable)
		events := epore.NewEvents(4)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, ctx := range []context.Context{ctx, context.Background(), context.WithValue(ctx, contextKey{}, "value"), ctx} {
			ended := asleep(p, func() error { return p.PollContext(ctx, events) })
			b.Write("x")
			require.NoError(t, <-ended)
			require.Len(t, all(events), 1)
			a.Drain()
		}
	})
}

// contract: P8
func TestPollContext_LeavesOtherCallsAlone(t *testing.T) {
	eachStrategy(t, "P8: a ctx ends the calls that it was given to, and no other", func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(4)
		w := newWaker(t, p, 1)
		old, cancelOld := context.WithCancel(t.Context())
		require.NoError(t, w.Wake())
		require.NoError(t, p.PollContext(old, events))
		cancelOld()
		begin := time.Now()
		require.NoError(t, p.Poll(events, 5*time.Millisecond), "a Poll without ctx")
		require.Zero(t, events.Len())
		require.GreaterOrEqual(t, time.Since(begin), 5*time.Millisecond)
		next, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		require.Equal(t, context.DeadlineExceeded, p.PollContext(next, events), "another ctx")
	})
}

// countingContext has its own Done channel, and counts the subscriptions: package
// context would start a goroutine for each subscription to a context of a type that it does
// not know and that cannot do this.
type countingContext struct {
	context.Context
	done             chan struct{}
	subscribed, left *int
}

func (c countingContext) Done() <-chan struct{} { return c.done }

func (c countingContext) AfterFunc(f func()) func() bool {
	*c.subscribed++
	return func() bool { *c.left++; return true }
}

// contract: P8
func TestPollContext_SubscribesOnce(t *testing.T) {
	eachStrategy(t, contextRule, func(t *testing.T, p *epore.Poll) {
		var subscribed, left int
		make := func() context.Context {
			return countingContext{t.Context(), make(chan struct{}), &subscribed, &left}
		}
		one, two := make(), make()
		events := epore.NewEvents(1)
		w := newWaker(t, p, 1)
		poll := func(ctx context.Context) {
			require.NoError(t, w.Wake())
			require.NoError(t, p.PollContext(ctx, events))
		}
		for range 100 {
			poll(one)
		}
		require.Equal(t, 1, subscribed, "the same ctx again costs nothing")
		poll(two)
		require.Equal(t, 2, subscribed)
		require.Equal(t, 1, left, "the other one was left")
		require.NoError(t, p.Close())
		require.Equal(t, 2, left, "Close leaves the last one")
	})
}

// lateContext is done just after PollContext has looked and subscribed, before
// it sleeps. An interruption at that moment comes too early, and has no effect.
type lateContext struct {
	context.Context
	done  chan struct{}
	looks *int
}

func (c lateContext) Done() <-chan struct{} { return c.done }

func (c lateContext) AfterFunc(func()) func() bool { return func() bool { return false } }

func (c lateContext) Err() error {
	if *c.looks++; *c.looks == 1 {
		return nil
	}
	return context.Canceled
}

// contract: P8
func TestPollContext_DoneBeforeSleep(t *testing.T) {
	eachStrategy(t, contextRule, func(t *testing.T, p *epore.Poll) {
		for range 3 {
			ctx := lateContext{t.Context(), make(chan struct{}), new(int)}
			require.Equal(t, context.Canceled, p.PollContext(ctx, epore.NewEvents(1)))
		}
	})
}

// foreignContext is a context of a type that package context does not know.
type foreignContext struct {
	context.Context
	done chan struct{}
}

func (c foreignContext) Done() <-chan struct{} { return c.done }
func (c foreignContext) Err() error {
	select {
	case <-c.done:
		return errForeign
	default:
		return nil
	}
}

var errForeign = errors.New("ended in its own way")

// contract: P8
func TestPollContext_ForeignContext(t *testing.T) {
	eachStrategy(t, contextRule, func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(1)
		w := newWaker(t, p, 1)
		ctx := foreignContext{t.Context(), make(chan struct{})}
		require.NoError(t, w.Wake())
		require.NoError(t, p.PollContext(ctx, events))
		before := runtime.NumGoroutine()
		for range 200 {
			require.NoError(t, w.Wake())
			require.NoError(t, p.PollContext(ctx, events))
		}
		require.Less(t, runtime.NumGoroutine(), before+20, "none for each call; the runtime may have started some")
		ended := asleep(p, func() error { return p.PollContext(ctx, events) })
		close(ctx.done)
		require.Equal(t, errForeign, <-ended)
	})
}
