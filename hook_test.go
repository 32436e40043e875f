//go:build unix || windows

package epore_test

import (
	"fmt"
	"io/fs"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

const hookRule = "S7: the Poll calls a Hook after each request, before it looks, and delivers what the Hook gives"

// contract: S7
func TestHook_RequestBeforePoll(t *testing.T) {
	eachStrategy(t, hookRule, func(t *testing.T, p *epore.Poll) {
		w, turns := newWaker(t, p, 7), 0
		h, err := epore.NewHook(p.Registry(), nil, func() {
			turns++
			require.NoError(t, w.Wake())
			require.True(t, w.Pending())
		}, nil)
		require.NoError(t, err)
		require.False(t, w.Pending())
		events := epore.NewEvents(4)
		for i := range 100 {
			require.Empty(t, ready(t, p, events))
			for range 3 {
				require.NoError(t, h.Request())
			}
			require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, ready(t, p, events), "in the same Poll")
			require.Equal(t, i+1, turns, "requests coalesce")
			require.False(t, w.Pending())
		}
		require.NoError(t, h.Close())
		require.NoError(t, h.Request())
		require.Empty(t, ready(t, p, events))
		require.Equal(t, 100, turns)
		require.NoError(t, h.Close())
	})
}

// contract: S7
func TestHook_RequestDuringPoll(t *testing.T) {
	eachStrategy(t, hookRule, func(t *testing.T, p *epore.Poll) {
		w := newWaker(t, p, 7)
		h, err := epore.NewHook(p.Registry(), nil, func() { _ = w.Wake() }, nil)
		require.NoError(t, err)
		events := epore.NewEvents(4)
		for range 200 {
			polled := asleep(p, func() error { return p.Poll(events, forever) })
			require.NoError(t, h.Request())
			require.NoError(t, <-polled)
			require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, all(events))
		}
	})
}

// A Hook that gives nothing does not end the wait, and its requests during the wait are not
// lost.
// contract: S7
func TestHook_WithoutEventsPollGoesOn(t *testing.T) {
	eachStrategy(t, hookRule, func(t *testing.T, p *epore.Poll) {
		w := newWaker(t, p, 7)
		var turns atomic.Int32
		var h *epore.Hook
		h, err := epore.NewHook(p.Registry(), nil, func() {
			if n := turns.Add(1); n < 5 {
				_ = h.Request()
			} else if n == 5 {
				_ = w.Wake()
			}
		}, nil)
		require.NoError(t, err)
		events := epore.NewEvents(4)
		polled := asleep(p, func() error { return p.Poll(events, forever) })
		require.NoError(t, h.Request())
		require.NoError(t, <-polled)
		require.Len(t, all(events), 1)
		require.EqualValues(t, 5, turns.Load())
	})
}

// contract: S7
func TestHook_PollCloses(t *testing.T) {
	eachStrategy(t, hookRule, func(t *testing.T, p *epore.Poll) {
		ends := 0
		h, err := epore.NewHook(p.Registry(), nil, func() {}, func() error { ends++; return fs.ErrExist })
		require.NoError(t, err)
		require.ErrorIs(t, p.Close(), fs.ErrExist)
		require.ErrorIs(t, h.Close(), fs.ErrExist)
		require.Equal(t, 1, ends)
		require.ErrorIs(t, h.Request(), epore.ErrClosed)
		_, err = epore.NewHook(p.Registry(), nil, func() {}, nil)
		require.ErrorIs(t, err, epore.ErrClosed)
	})
}

// contract: S7
func TestHook_BadInput(t *testing.T) {
	eachStrategy(t, hookRule, func(t *testing.T, p *epore.Poll) {
		_, err := epore.NewHook(p.Registry(), nil, nil, nil)
		require.ErrorIs(t, err, fs.ErrInvalid)
		_, err = epore.NewHook(p.Registry(), &net.TCPConn{}, func() {}, nil)
		require.ErrorIs(t, err, fs.ErrInvalid)
		_, err = epore.NewHook(nil, nil, func() {}, nil)
		require.ErrorIs(t, err, fs.ErrInvalid)
		var zero epore.Hook
		require.ErrorIs(t, zero.Request(), fs.ErrInvalid)
		require.ErrorIs(t, zero.Close(), fs.ErrInvalid)
	})
}

// lateAdd is a queue that reports a source before Add returns.
type lateAdd struct {
	*backendtest.Fake
	reported <-chan error
}

func (q *lateAdd) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	err := q.Fake.Add(h, k, in)
	select {
	case err := <-q.reported:
		return fmt.Errorf("the Poll gave the event of a Hook (error %v)", err)
	case <-time.After(20 * time.Millisecond): // the Poll waits for the Hook, or for its event
	}
	return err
}

// A source that is ready when its Hook is made, while another goroutine polls, calls the Hook.
//
// contract: S7
func TestHook_SourceIsReadyAtOnce(t *testing.T) {
	t.Cleanup(backendtest.Watchdog(t, hookRule))
	q := &lateAdd{Fake: backendtest.NewFake()}
	p, err := epore.NewWith(q)
	require.NoError(t, err)
	defer p.Close()
	w := newWaker(t, p, 7)
	events := epore.NewEvents(4)
	polled := asleep(p, func() error { return p.Poll(events, forever) })
	q.reported = polled
	q.SetReady(3, backend.ReadyReadable)
	h, err := epore.NewHook(p.Registry(), epore.FD(3), func() { _ = w.Wake() }, nil)
	require.NoError(t, err)
	defer h.Close()
	require.NoError(t, <-polled)
	require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, all(events))
}

// whileDeleting is a queue that lets something happen before Delete takes effect.
type whileDeleting struct {
	*backendtest.Fake
	do func()
}

func (q *whileDeleting) Delete(h backend.Handle) error {
	q.do()
	return q.Fake.Delete(h)
}

// While a Hook is closed, its source gives the loop no event either.
//
// contract: S7
func TestHook_NoEventWhileItCloses(t *testing.T) {
	guard(t, hookRule)
	q := &whileDeleting{Fake: backendtest.NewFake()}
	p, err := epore.NewWith(q)
	require.NoError(t, err)
	defer p.Close()
	h, err := epore.NewHook(p.Registry(), epore.FD(3), func() {}, nil)
	require.NoError(t, err)
	q.SetReady(3, backend.ReadyReadable)
	q.do = func() { require.Empty(t, ready(t, p, epore.NewEvents(4))) }
	require.NoError(t, h.Close())
	require.Zero(t, q.Watched())
}

// A panic in end leaves nothing locked: Close can be called again, as by a deferred call.
//
// contract: P9, S7
func TestHook_EndPanics(t *testing.T) {
	guard(t, "P9: Close may be called more than once")
	p, err := epore.NewWith(backendtest.NewFake())
	require.NoError(t, err)
	h, err := epore.NewHook(p.Registry(), nil, func() {}, func() error { panic(errSorry) })
	require.NoError(t, err)
	require.PanicsWithValue(t, errSorry, func() { _ = p.Close() })
	require.NoError(t, p.Close())
	require.NoError(t, h.Close())
	require.ErrorIs(t, p.Poll(epore.NewEvents(1), 0), epore.ErrClosed)
}
