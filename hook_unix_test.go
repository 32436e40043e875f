//go:build unix

package epore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

// The source of a Hook calls it, and gives no event of its own.
//
// contract: S7
func TestHook_Source(t *testing.T) {
	eachStrategy(t, hookRule, func(t *testing.T, p *epore.Poll) {
		a, b := fixture.Pair(t)
		w, turns := newWaker(t, p, 7), 0
		h, err := epore.NewHook(p.Registry(), epore.FD(a.FD), func() {
			turns++
			if n, _ := a.Drain(); n > 0 {
				_ = w.Wake()
			}
		}, nil)
		require.NoError(t, err)
		events := epore.NewEvents(4)
		for range 100 {
			polled := asleep(p, func() error { return p.Poll(events, forever) })
			b.Write("x")
			require.NoError(t, <-polled)
			require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, all(events))
			require.Empty(t, ready(t, p, events))
		}
		require.NoError(t, h.Close())
		turns = 0
		b.Write("x")
		require.Empty(t, ready(t, p, events))
		require.Zero(t, turns)
	})
}

// A mailbox that is not drained is reported once in each batch, also if Hooks were called in
// that Poll.
//
// contract: P6, S7
func TestHook_NothingTwiceInABatch(t *testing.T) {
	eachStrategy(t, hookRule, func(t *testing.T, p *epore.Poll) {
		box, err := epore.NewMailbox[int](p.Registry(), 1)
		require.NoError(t, err)
		require.NoError(t, box.Send(1))
		a, b := fixture.Pair(t)
		turns := 0
		h, err := epore.NewHook(p.Registry(), epore.FD(a.FD), func() { turns++; a.Drain() }, nil)
		require.NoError(t, err)
		defer h.Close()
		events := epore.NewEvents(8)
		for range 10 {
			b.Write("x")
			require.NoError(t, h.Request())
			require.NoError(t, p.Poll(events, 0))
			require.Len(t, all(events), 1)
		}
		require.GreaterOrEqual(t, turns, 10)
	})
}
