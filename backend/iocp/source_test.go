//go:build windows

package iocp

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

// next waits until there are events, and returns them.
func next(t *testing.T, q *IOCP) []backend.Event {
	t.Helper()
	dst := make([]backend.Event, 8)
	for begin := time.Now(); time.Since(begin) < fixture.Soon; {
		n, err := q.Wait(dst, fixture.Soon)
		require.NoError(t, err)
		if n > 0 {
			return dst[:n]
		}
	}
	require.Fail(t, "no event came")
	return nil
}

// now returns the events that are ready, without blocking.
func now(t *testing.T, q *IOCP) []backend.Event {
	t.Helper()
	dst := make([]backend.Event, 8)
	n, err := q.Wait(dst, 0)
	require.NoError(t, err)
	return dst[:n]
}

// inUse counts the requests that are in use.
func (q *IOCP) inUse() (n int) {
	for _, g := range q.requests.groups {
		if g == nil {
			continue
		}
		for i := range g.requests {
			if g.free&(1<<i) == 0 {
				n++
			}
		}
	}
	return n
}

// groups counts the groups of requests.
func (q *IOCP) groups() (n int) {
	for _, g := range q.requests.groups {
		if g != nil {
			n++
		}
	}
	return n
}

const (
	readable = backend.Readable
	writable = backend.Writable
)

// inEachState runs a test with a registered socket in each of its states.
func inEachState(t *testing.T, run func(t *testing.T, q *IOCP, a, b *fixture.End)) {
	for name, s := range map[state]struct {
		in    backend.Interest
		reach func(t *testing.T, q *IOCP)
	}{
		idle:  {writable | backend.OneShot, func(t *testing.T, q *IOCP) { require.Len(t, next(t, q), 1) }},
		due:   {writable, func(t *testing.T, q *IOCP) { require.Len(t, next(t, q), 1) }},
		armed: {readable, func(*testing.T, *IOCP) {}},
		ready: {writable, func(t *testing.T, q *IOCP) {
			q.mu.Lock()
			defer q.mu.Unlock()
			for q.lists[ready].first == nil {
				require.NoError(t, q.awaitPackets())
			}
		}},
	} {
		t.Run([...]string{"idle", "due", "armed", "ready"}[name], func(t *testing.T) {
			q := openQueue(t)
			a, b := fixture.TCPPair(t)
			require.NoError(t, q.Add(a.Handle(), 1, s.in))
			s.reach(t, q)
			require.Equal(t, name, q.sources[a.Handle()].state)
			run(t, q, a, b)
		})
	}
}

// The next Wait forgets a socket that was closed while it was registered, and releases
// its requests.
func TestSource_ClosedWhileRegistered(t *testing.T) {
	inEachState(t, func(t *testing.T, q *IOCP, a, b *fixture.End) {
		a.Close()
		for len(q.sources) > 0 || q.inUse() > 0 {
			for _, ev := range brief(t, q) {
				require.Equal(t, backend.Key(1), ev.Key)
			}
		}
		require.ErrorIs(t, q.Delete(a.Handle()), fs.ErrNotExist)
	})
}

// brief returns the events of one Wait that blocks for 10 ms at most.
func brief(t *testing.T, q *IOCP) []backend.Event {
	dst := make([]backend.Event, 8)
	n, err := q.Wait(dst, 10*time.Millisecond)
	require.NoError(t, err)
	return dst[:n]
}

// A new socket under a reused handle is not taken for the old one, whatever state that
// was in.
func TestSource_HandleReused(t *testing.T) {
	change := map[string]func(t *testing.T, q *IOCP, a *fixture.End){
		"Add": func(t *testing.T, q *IOCP, a *fixture.End) {
			require.NoError(t, q.Add(a.Handle(), 2, readable))
			require.ErrorIs(t, q.Add(a.Handle(), 3, readable), fs.ErrExist)
		},
		"Modify": func(t *testing.T, q *IOCP, a *fixture.End) {
			require.ErrorIs(t, q.Modify(a.Handle(), 2, readable), fs.ErrNotExist)
			require.NoError(t, q.Add(a.Handle(), 2, readable))
		},
		"Delete": func(t *testing.T, q *IOCP, a *fixture.End) {
			require.ErrorIs(t, q.Delete(a.Handle()), fs.ErrNotExist)
			require.NoError(t, q.Add(a.Handle(), 2, readable))
		},
		"Rearm": func(t *testing.T, q *IOCP, a *fixture.End) {
			q.Rearm(a.Handle(), readable)
			require.NoError(t, q.Add(a.Handle(), 2, readable))
		},
		"Wait": func(t *testing.T, q *IOCP, a *fixture.End) {
			brief(t, q)
			require.NoError(t, q.Add(a.Handle(), 2, readable))
		},
	}
	for name, change := range change {
		t.Run(name, func(t *testing.T) {
			inEachState(t, func(t *testing.T, q *IOCP, a, _ *fixture.End) {
				a.Close()
				c, d := fixture.PairAt(t, a.FD)
				change(t, q, c)
				d.Write("x")
				require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, next(t, q))
				require.NoError(t, q.Delete(c.Handle()))
				require.Empty(t, q.sources)
			})
		})
	}
}

// A second Add fails and does not affect the first registration, whatever its state.
func TestAdd_TwiceIsHarmless(t *testing.T) {
	inEachState(t, func(t *testing.T, q *IOCP, a, b *fixture.End) {
		before := q.sources[a.Handle()].state
		for range 3 {
			require.ErrorIs(t, q.Add(a.Handle(), 9, readable), fs.ErrExist)
		}
		if after := q.sources[a.Handle()].state; after != before {
			require.Equal(t, armed, before)
			require.Equal(t, ready, after)
		}
		require.LessOrEqual(t, q.inUse(), 2)
		b.Write("x")
		if before != idle {
			require.Equal(t, backend.Key(1), next(t, q)[0].Key)
		}
	})
}

// A change gets its packets from the Wait in progress, or takes them out of the port
// itself if there is none. Every change ends, and none leaves a request behind.
func TestChanges_ConcurrentWithWait(t *testing.T) {
	q := openQueue(t)
	const sockets = 8
	rounds := 400
	if backendtest.Long() {
		rounds *= 20
	}
	var pairs [sockets][2]*fixture.End
	for i := range pairs {
		pairs[i][0], pairs[i][1] = fixture.TCPPair(t)
	}
	done := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() {
		dst := make([]backend.Event, 3)
		timeouts := [...]time.Duration{0, -1, time.Millisecond, time.Second}
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			n, err := q.Wait(dst, timeouts[i%len(timeouts)])
			if err != nil || n > len(dst) {
				t.Errorf("%d, %v", n, err)
				return
			}
		}
	})
	registered := make(map[int]bool)
	for range rounds {
		i := rand.IntN(sockets)
		h := pairs[i][0].Handle()
		in := []backend.Interest{readable, writable, readable | writable, readable | backend.OneShot, writable | backend.Edge}[rand.IntN(5)]
		var err error
		switch rand.IntN(6) {
		case 0, 1:
			err = q.Add(h, backend.Key(i+1), in)
			require.Equal(t, registered[i], errors.Is(err, fs.ErrExist), "%v", err)
			registered[i] = true
		case 2:
			err = q.Modify(h, backend.Key(i+1), in)
			require.Equal(t, !registered[i], errors.Is(err, fs.ErrNotExist), "%v", err)
		case 3:
			err = q.Delete(h)
			require.Equal(t, !registered[i], errors.Is(err, fs.ErrNotExist), "%v", err)
			registered[i] = false
		case 4:
			q.Rearm(h, writable)
		case 5:
			_, err = pairs[i][1].TryWrite([]byte("x"))
			if fixture.WouldBlock(err) {
				pairs[i][0].Drain()
			}
		}
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) && !fixture.WouldBlock(err) {
			require.NoError(t, err)
		}
	}
	for i := range pairs {
		if registered[i] {
			require.NoError(t, q.Delete(pairs[i][0].Handle()))
		}
	}
	close(done)
	require.NoError(t, q.Wake())
	waiter.Wait()
	require.Zero(t, q.inUse())
}

// Registering and deregistering leaks neither handles nor memory nor requests, even if
// nothing waits.
func TestRegistrations_LeakNothing(t *testing.T) {
	const held = 100
	rounds := 3_000
	if backendtest.Long() {
		rounds = 100_000
	}
	q := openQueue(t)
	var ends []*fixture.End
	for range held / 2 {
		a, b := fixture.TCPPair(t)
		ends = append(ends, a, b)
	}
	all := func(do func(h backend.Handle) error) {
		for _, e := range ends {
			require.NoError(t, do(e.Handle()))
		}
	}
	add := func(h backend.Handle) error { return q.Add(h, 1, readable) }
	all(add)
	all(q.Delete)
	handles := func() int { return len(fixture.Descriptors(4 * 4096)) }
	open, heap := handles(), fixture.Heap()
	for range rounds / held {
		all(add)
		all(q.Delete)
	}
	require.Zero(t, q.inUse())
	require.Empty(t, q.sources)
	require.Equal(t, 1, q.groups())
	require.Equal(t, open, handles(), "handles of sockets, helpers and ports")
	require.Less(t, fixture.Heap()-heap, int64(64<<10))
	t.Logf("%d registrations, %d handles before and %d after", rounds, open, handles())
}
