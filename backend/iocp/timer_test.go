//go:build windows

package iocp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
)

// The timer times timeouts of less than two ticks of the clock, and a Wait that ends
// earlier leaves no timer running.
func TestTimer_ShortTimeouts(t *testing.T) {
	if !hasTimer() {
		t.Skip("this system lacks high-resolution timers")
	}
	q := openQueue(t)
	require.Empty(t, brief(t, q))
	require.NotNil(t, q.timer.wait)
	dst := make([]backend.Event, 1)
	for _, timeout := range []time.Duration{1, time.Microsecond, 100 * time.Microsecond, time.Millisecond, 5 * time.Millisecond} {
		begin := time.Now()
		for time.Since(begin) < timeout { // Wait may return early
			_, err := q.Wait(dst, timeout-time.Since(begin))
			require.NoError(t, err)
		}
	}
	require.NoError(t, q.Wake())
	_, err := q.Wait(dst, timerLimit-1)
	require.NoError(t, err)
	require.NoError(t, q.Close())
	require.Nil(t, q.timer.wait)
}
