//go:build unix || windows

package epore_test

import (
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

const statsRule = "Stats counts what the Poll has done; Sources returns what is registered; both may be called from any goroutine"

// contract: P18
func TestStats_CountPolls(t *testing.T) {
	eachStrategy(t, statsRule, func(t *testing.T, p *epore.Poll) {
		before := p.Stats()
		require.Zero(t, before.Polls)
		w, v := newWaker(t, p, 1), newWaker(t, p, 2)
		events := epore.NewEvents(1)
		require.NoError(t, w.Wake())
		require.NoError(t, v.Wake())
		next(t, p, events)
		next(t, p, events)
		require.NoError(t, p.Poll(events, 0))
		s := p.Stats()
		assert.Equal(t, []uint64{3, 2, 2, 0, 0}, []uint64{s.Polls, s.Events, s.FullBatches, s.Sleeps, s.Wakeups})
		assert.Zero(t, s.Waiting)

		const pause = 20 * time.Millisecond
		require.NoError(t, p.Poll(events, pause))
		s = p.Stats()
		assert.EqualValues(t, 4, s.Polls)
		assert.NotZero(t, s.Sleeps)
		assert.GreaterOrEqual(t, s.Waiting, pause, "a timeout is never early")
		assert.GreaterOrEqual(t, s.Outside, s.LongestOutside)
		assert.NotZero(t, s.LongestOutside)
	})
}

// contract: P18
func TestStats_CountWakeups(t *testing.T) {
	eachStrategy(t, statsRule, func(t *testing.T, p *epore.Poll) {
		w := newWaker(t, p, 1)
		events := epore.NewEvents(4)
		// A waiter may find the event before it sleeps. It does not do so each time.
		for n := uint64(1); ; n++ {
			polled := asleep(p, func() error { return p.Poll(events, forever) })
			require.NoError(t, w.Wake())
			require.NoError(t, <-polled)
			s := p.Stats()
			require.Equal(t, n, s.Events)
			require.LessOrEqual(t, s.Wakeups, s.Sleeps)
			if s.Wakeups > 0 {
				break
			}
			require.Less(t, n, uint64(100_000))
		}
	})
}

// Registrations and Timers are what they are now, whichever way a timer ceases to be set.
// contract: P18
func TestStats_CountRegistrations(t *testing.T) {
	eachStrategy(t, statsRule, func(t *testing.T, p *epore.Poll) {
		count := func() [2]int { s := p.Stats(); return [2]int{s.Registrations, s.Timers} }
		require.Equal(t, [2]int{0, 0}, count())
		var timers []*epore.Timer
		for i := range 4 {
			timer, err := epore.NewTimer(p.Registry(), epore.Token(i))
			require.NoError(t, err)
			timers = append(timers, timer)
		}
		require.Equal(t, [2]int{4, 0}, count())
		for _, timer := range timers {
			require.NoError(t, timer.Reset(time.Hour))
			require.NoError(t, timer.Reset(time.Minute))
		}
		require.Equal(t, [2]int{4, 4}, count())
		require.True(t, timers[0].Stop())
		require.False(t, timers[0].Stop())
		require.NoError(t, timers[1].Close())
		require.NoError(t, timers[2].Reset(0))
		next(t, p, epore.NewEvents(4))
		require.Equal(t, [2]int{3, 1}, count())
		require.NoError(t, timers[2].Every(time.Nanosecond))
		next(t, p, epore.NewEvents(4))
		require.Equal(t, [2]int{3, 2}, count(), "a periodic timer remains set")
		require.NoError(t, p.Close())
		require.Equal(t, [2]int{0, 0}, count())
	})
}

// contract: P18
func TestSources_ListWhatIsRegistered(t *testing.T) {
	eachStrategy(t, statsRule, func(t *testing.T, p *epore.Poll) {
		require.Empty(t, p.Sources())
		newWaker(t, p, 1)
		timer, err := epore.NewTimer(p.Registry(), 2)
		require.NoError(t, err)
		_, err = epore.NewMailbox[int](p.Registry(), 3)
		require.NoError(t, err)
		a, b := tcpPair(t)
		require.NoError(t, p.Registry().Register(a, 4, epore.Readable))
		require.NoError(t, p.Registry().Register(b, 5, epore.Readable|epore.OneShot))
		all := p.Sources()
		require.Len(t, all, 5)
		require.Equal(t, p.Stats().Registrations, len(all))
		kinds := make(map[epore.Token]string)
		for _, s := range all {
			kinds[s.Token] = s.Kind
			if s.Token < 4 {
				assert.Equal(t, -1, s.FD, s.Kind)
			} else {
				assert.Positive(t, s.FD, s.Kind)
			}
		}
		require.Equal(t, map[epore.Token]string{1: "Waker", 2: "Timer", 3: "Mailbox", 4: "*net.TCPConn", 5: "*net.TCPConn"}, kinds)

		require.NoError(t, p.Registry().Reregister(a, 6, epore.Writable))
		require.NoError(t, p.Registry().Deregister(b))
		require.NoError(t, timer.Close())
		all = p.Sources()
		require.Len(t, all, 3)
		for _, s := range all {
			if s.FD >= 0 {
				assert.Equal(t, epore.SourceInfo{Token: 6, Interest: epore.Writable, FD: s.FD, Kind: "*net.TCPConn"}, s)
			}
		}
		require.NoError(t, p.Close())
		require.Empty(t, p.Sources())
	})
}

// The race detector checks it.
// contract: P18
func TestStats_FromAnyGoroutine(t *testing.T) {
	eachStrategy(t, statsRule, func(t *testing.T, p *epore.Poll) {
		w := newWaker(t, p, 1)
		var readers sync.WaitGroup
		stop := make(chan struct{})
		for range 2 {
			readers.Go(func() {
				var last epore.Stats
				for {
					select {
					case <-stop:
						return
					default:
					}
					s := p.Stats()
					if s.Polls < last.Polls || s.Events < last.Events || s.Waiting < last.Waiting {
						t.Error("a counter went back")
						return
					}
					last = s
					p.Sources()
					runtime.Gosched() // on one processor the others have their turn
				}
			})
		}
		events := epore.NewEvents(4)
		for range 100 {
			polled := asleep(p, func() error { return p.Poll(events, forever) })
			assert.NoError(t, w.Wake())
			assert.NoError(t, <-polled)
		}
		close(stop)
		readers.Wait()
		assert.EqualValues(t, 100, p.Stats().Polls)
	})
}

// An event of a registration that has ended is dropped, and counted.
// contract: P18
func TestStats_CountStale(t *testing.T) {
	fake := backendtest.NewFake()
	p, err := epore.NewWith(fake)
	require.NoError(t, err)
	defer p.Close()
	require.NoError(t, p.Registry().Register(epore.FD(1000), 1, epore.Readable))
	key, registered := fake.KeyOf(1000)
	require.True(t, registered)
	require.NoError(t, p.Registry().Deregister(epore.FD(1000)))
	fake.Inject(backend.Event{Key: key, Ready: epore.ReadyReadable})
	events := epore.NewEvents(1)
	require.NoError(t, p.Poll(events, 0))
	require.Zero(t, events.Len())
	require.EqualValues(t, 1, p.Stats().Stale)
}

// contract: P18
func TestStats_ZeroPoll(t *testing.T) {
	var p epore.Poll
	require.Zero(t, p.Stats())
	require.Empty(t, p.Sources())
}

func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = dialed.Close() })
	accepted, err := l.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { _ = accepted.Close() })
	return dialed.(*net.TCPConn), accepted
}
