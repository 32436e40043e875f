//go:build unix || windows

package epore_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
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

// contract: P14
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

// contract: P14
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

// contract: P14
func TestVirtualTime_PollContext(t *testing.T) {
	virtual(t, func(t *testing.T, p *epore.Poll, events *epore.Events) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		require.ErrorIs(t, p.PollContext(ctx, events), context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(begin))
	})
}

// contract: P14
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

// slowQueue is a Fake that needs virtual time to return from a Wait that may block.
type slowQueue struct{ backend.Backend }

func (q slowQueue) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	n, err := q.Backend.Wait(dst, timeout)
	if timeout != 0 {
		time.Sleep(time.Second)
	}
	return n, err
}

// contract: P19
func TestVirtualTime_CloseIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := epore.NewWith(slowQueue{backendtest.NewFake()})
		require.NoError(t, err)
		polled := make(chan error, 1)
		go func() { polled <- p.Poll(epore.NewEvents(4), epore.Forever) }()
		synctest.Wait()
		begin := time.Now()
		closed := make(chan error, 2)
		for range 2 {
			go func() { closed <- p.Close() }()
		}
		require.NoError(t, <-closed)
		require.NoError(t, <-closed)
		require.Equal(t, time.Second, time.Since(begin))
		require.ErrorIs(t, <-polled, epore.ErrClosed)
	})
}

// quietQueue is a Fake that waits for everybody else in the bubble before the Poll looks.
type quietQueue struct {
	backend.Backend
	woken chan struct{}
	err   error
}

func (q *quietQueue) Wake() error {
	select {
	case q.woken <- struct{}{}:
	default:
	}
	return nil
}

func (q *quietQueue) WaitQuiet(timeout time.Duration, awake func() bool) error {
	synctest.Wait()
	if q.err != nil || awake() {
		return q.err
	}
	if timeout < 0 {
		<-q.woken
	} else {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-q.woken:
		case <-timer.C:
		}
	}
	synctest.Wait()
	return q.err
}

func quiet(t *testing.T, run func(t *testing.T, p *epore.Poll, q *quietQueue)) {
	synctest.Test(t, func(t *testing.T) {
		q := &quietQueue{Backend: backendtest.NewFake(), woken: make(chan struct{}, 1)}
		p, err := epore.NewWith(q)
		require.NoError(t, err)
		run(t, p, q)
		require.NoError(t, p.Close())
	})
}

// Whatever happens at one instant arrives in one batch, however goroutines are scheduled.
// contract: P19
func TestQuiescer_OneInstantIsOneBatch(t *testing.T) {
	quiet(t, func(t *testing.T, p *epore.Poll, _ *quietQueue) {
		events := epore.NewEvents(8)
		timer := newTimer(t, p, 1)
		wakers := []*epore.Waker{newWaker(t, p, 2), newWaker(t, p, 3), newWaker(t, p, 4)}
		for range 200 {
			require.NoError(t, timer.Reset(time.Second))
			for _, w := range wakers {
				go func() {
					time.Sleep(time.Second)
					_ = w.Wake()
				}()
			}
			begin := time.Now()
			require.NoError(t, p.Poll(events, epore.Forever))
			require.Equal(t, 4, events.Len())
			require.Equal(t, time.Second, time.Since(begin))
		}
	})
}

func TestQuiescer_PollEnds(t *testing.T) {
	quiet(t, func(t *testing.T, p *epore.Poll, q *quietQueue) {
		events := epore.NewEvents(1)
		for _, timeout := range []time.Duration{0, 1, 5 * time.Second, 100 * 365 * 24 * time.Hour} {
			begin := time.Now()
			require.NoError(t, p.Poll(events, timeout))
			require.Equal(t, timeout, time.Since(begin))
			require.Zero(t, events.Len())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		require.ErrorIs(t, p.PollContext(ctx, events), context.DeadlineExceeded)

		q.err = io.ErrUnexpectedEOF
		require.ErrorIs(t, p.Poll(events, epore.Forever), io.ErrUnexpectedEOF)
		q.err = nil
		go func() {
			time.Sleep(time.Second)
			_ = p.Close()
		}()
		require.ErrorIs(t, p.Poll(events, epore.Forever), epore.ErrClosed)
	})
}
