package epore_test

import (
	"io/fs"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/iouring"
	"github.com/epore/epore/internal/fixture"
)

// Without a tag, by NewWith, and from the wrong thread.
func TestPoll_WrongThread(t *testing.T) {
	guard(t, "P11: where the queue belongs to one thread, a Poll on another is ErrWrongThread, and disturbs nothing")
	p, err := epore.NewWith(iouring.New(), epore.WithStrategy(epore.Block))
	skipWithout(t, err)
	defer p.Close()
	require.Equal(t, "io_uring", p.Backend())
	if !p.Capabilities().OneThread {
		t.Skip("this kernel has no rings of one thread")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	a, b := fixture.Pair(t)
	events := epore.NewEvents(4)
	register(t, p, a, 1, epore.Readable|epore.Edge)
	require.NoError(t, p.Poll(events, 0))
	b.Write("x")
	fixture.OnEndingThread(t, func() { err = p.Poll(epore.NewEvents(4), time.Hour) })
	require.ErrorIs(t, err, epore.ErrWrongThread)
	require.ErrorContains(t, err, "poll the io_uring queue")
	require.ErrorContains(t, err, "runtime.LockOSThread")
	require.NotErrorIs(t, err, fs.ErrExist, "what the kernel says")
	require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, next(t, p, events))
}

// Registrations survive the threads that polled.
func TestPoll_PollingThreadsEnd(t *testing.T) {
	eachStrategy(t, "R1: a registration belongs to the queue: the thread that polled may end", func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(4)
		a, b := fixture.Pair(t)
		register(t, p, a, 1, epore.Readable)
		for range 10 {
			for _, timeout := range []time.Duration{0, time.Microsecond, 3 * time.Millisecond} {
				var err error
				fixture.OnEndingThread(t, func() { err = p.Poll(epore.NewEvents(4), timeout) })
				require.NoError(t, err)
			}
			b.Write("x")
			require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, next(t, p, events))
			a.Drain()
		}
		w := newWaker(t, p, 2)
		woken := asleep(p, func() error { return p.Poll(events, forever) })
		require.NoError(t, w.Wake())
		require.NoError(t, <-woken)
		require.Equal(t, []epore.Event{{Token: 2, Ready: 1}}, all(events))
	})
}
