//go:build unix || windows

package epore_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
)

// virtual runs a test in a bubble, whose clock begins in the year 2000 and has no monotonic
// reading, with a Poll on the Fake.
func virtual(t *testing.T, run func(t *testing.T, p *epore.Poll, events *epore.Events)) {
	synctest.Test(t, func(t *testing.T) {
		p, err := epore.NewWith(backendtest.NewFake())
		require.NoError(t, err)
		run(t, p, epore.NewEvents(4))
		require.NoError(t, p.Close())
	})
}

func TestVirtualTime_PollEndsExactly(t *testing.T) {
	virtual(t, func(t *testing.T, p *epore.Poll, events *epore.Events) {
		for _, timeout := range []time.Duration{0, 1, time.Millisecond, 5 * time.Second, 100 * 365 * 24 * time.Hour} {
			begin := time.Now()
			require.NoError(t, p.Poll(events, timeout))
			require.Equal(t, timeout, time.Since(begin))
			require.Zero(t, events.Len())
		}
	})
}

func TestVirtualTime_Timer(t *testing.T) {
	virtual(t, func(t *testing.T, p *epore.Poll, events *epore.Events) {
		begin := time.Now()
		timer := newTimer(t, p, 7)
		require.NoError(t, timer.Reset(5*time.Second))
		require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, next(t, p, events))
		require.Equal(t, 5*time.Second, time.Since(begin))

		require.NoError(t, timer.ResetAt(begin.Add(time.Hour)))
		require.NoError(t, p.Poll(events, epore.Forever))
		require.Equal(t, time.Hour, time.Since(begin))

		require.NoError(t, timer.Every(time.Minute))
		for i := range 5 {
			require.NoError(t, p.Poll(events, epore.Forever))
			require.Equal(t, time.Hour+time.Duration(i+1)*time.Minute, time.Since(begin))
			require.Equal(t, uint64(1), timer.Ticks())
		}
		require.True(t, timer.Stop())
		require.NoError(t, timer.Reset(1<<63-1), "beyond the range of the clock")
		require.NoError(t, p.Poll(events, 24*time.Hour))
		require.Zero(t, events.Len())
	})
}

func TestVirtualTime_PollContext(t *testing.T) {
	virtual(t, func(t *testing.T, p *epore.Poll, events *epore.Events) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		require.ErrorIs(t, p.PollContext(ctx, events), context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(begin))
	})
}

func TestVirtualTime_Wake(t *testing.T) {
	virtual(t, func(t *testing.T, p *epore.Poll, events *epore.Events) {
		w := newWaker(t, p, 9)
		begin := time.Now()
		go func() {
			time.Sleep(2 * time.Second)
			_ = w.Wake()
		}()
		require.NoError(t, p.Poll(events, time.Hour))
		require.Equal(t, []epore.Event{{Token: 9, Ready: 1}}, all(events))
		require.Equal(t, 2*time.Second, time.Since(begin))
	})
}
