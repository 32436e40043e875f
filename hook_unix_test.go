//go:build unix

package epore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

// The source of a Hook calls it, and gives no event of its own.
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
