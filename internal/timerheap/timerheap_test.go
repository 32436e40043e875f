package timerheap

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/slots"
)

// modelTimer is the simplest description of a Timer.
type modelTimer struct {
	*Timer
	when, period time.Duration // when is unset if it is not set
	ticks        uint64
	closed       bool
	hand         backend.Key // of its last event
	inHand       bool        // that event is not stale
	given        bool        // and was delivered to the loop
}

// The heap is compared with a list that is searched, on an invented clock.
// contract: S3
func TestHeap_BehavesLikeAList(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var table slots.Table
		q := new(Heap)
		q.Init(&table)
		var all []*modelTimer
		clock := time.Duration(rapid.IntRange(0, 1000).Draw(r, "clock"))
		pick := func(r *rapid.T) *modelTimer {
			if len(all) == 0 {
				r.Skip("no timer exists")
			}
			return all[rapid.IntRange(0, len(all)-1).Draw(r, "timer")]
		}
		duration := rapid.OneOf(
			rapid.Int64Range(0, 20), rapid.Int64Range(-5, 5000),
			rapid.SampledFrom([]int64{math.MaxInt64, math.MinInt64, math.MaxInt64 - 5000}),
		)
		// first is the time of the next expiry.
		first := func() time.Duration {
			next := Never
			for _, m := range all {
				if m.when != unset {
					next = min(next, m.when)
				}
			}
			return next
		}
		set := func(m *modelTimer, when, period time.Duration) {
			_, ok := q.Set(m.Timer, when, period)
			require.Equal(r, !m.closed, ok)
			if m.closed {
				return
			}
			m.when, m.period, m.ticks, m.inHand, m.given = when, period, 0, false, false
		}
		r.Repeat(map[string]func(*rapid.T){
			"": func(r *rapid.T) {
				require.LessOrEqual(r, q.next.Load(), int64(first()), "no timer is missed")
				require.LessOrEqual(r, len(q.entries)-top, 4*len(all)+16, "stale entries do not pile up")
				for _, m := range all {
					_, ok := table.Interest(m.hand)
					require.Equal(r, m.inHand, m.hand != 0 && ok, "an event in hand is valid until the timer is set again or stopped")
				}
			},
			"new": func(r *rapid.T) {
				table.Lock()
				defer table.Unlock()
				m := &modelTimer{Timer: new(Timer), when: unset}
				q.Add(m.Timer, table.Insert(slots.NoHandle, uint64(len(all)), backend.Readable))
				all = append(all, m)
			},
			"set": func(r *rapid.T) {
				set(pick(r), Plus(clock, time.Duration(duration.Draw(r, "in"))), 0)
			},
			"set to the time of another": func(r *rapid.T) {
				if m, other := pick(r), pick(r); other.when != unset {
					set(m, other.when, 0)
				}
			},
			"every": func(r *rapid.T) {
				d := time.Duration(max(duration.Draw(r, "period"), 1))
				set(pick(r), Plus(clock, d), d)
			},
			"stop": func(r *rapid.T) {
				m := pick(r)
				require.Equal(r, !m.closed && (m.when != unset || m.inHand && !m.given), q.Stop(m.Timer))
				m.when, m.inHand = unset, false
			},
			"close": func(r *rapid.T) {
				m := pick(r)
				key, first := q.Close(m.Timer)
				require.Equal(r, !m.closed, first)
				if first {
					table.Lock()
					table.Remove(slots.Index(key))
					table.Unlock()
				}
				m.when, m.closed, m.inHand = unset, true, false
			},
			"ticks": func(r *rapid.T) {
				m := pick(r)
				require.Equal(r, m.ticks, q.TakeTicks(m.Timer))
				m.ticks = 0
			},
			"sleep": func(r *rapid.T) {
				until := q.Earliest()
				require.Equal(r, first(), until)
				if until != Never && rapid.Bool().Draw(r, "until then") {
					clock = max(clock, until)
				}
			},
			"take": func(r *rapid.T) {
				clock = min(Plus(clock, time.Duration(rapid.IntRange(0, 3000).Draw(r, "later"))), Never-1)
				room := rapid.SampledFrom([]int{1, 2, 100}).Draw(r, "room")
				dst := make([]backend.Event, room)
				dst = dst[:q.Take(dst, clock)]
				for i, ev := range dst {
					_, ok := table.Interest(ev.Key)
					require.True(r, ok)
					m := all[slices.IndexFunc(all, func(m *modelTimer) bool { return !m.closed && m.key == ev.Key })]
					require.Equal(r, first(), m.when, "event %d: in the order of deadlines", i)
					require.LessOrEqual(r, m.when, clock, "Never early")
					m.ticks++
					if m.period > 0 {
						missed := (clock - m.when) / m.period
						m.ticks += uint64(missed)
						m.when = Plus(m.when+missed*m.period, m.period)
					} else {
						m.when = unset
					}
					m.hand, m.inHand, m.given = ev.Key, true, false
				}
				if len(dst) < room {
					require.Greater(r, first(), clock, "all that are due come")
				}
			},
			"give": func(r *rapid.T) {
				if m := pick(r); m.hand != 0 {
					_, ok := table.Token(m.hand)
					require.Equal(r, m.inHand, ok)
					m.given = true
				}
			},
		})
	})
}

// Times of any clock can be added, those before its origin, too: package time's clock in
// a testing/synctest bubble begins decades before that of the process.
// contract: P14
func TestPlus_Saturates(t *testing.T) {
	const decades = -26 * 365 * 24 * time.Hour
	for _, c := range []struct{ t, d, want time.Duration }{
		{1, 2, 3},
		{0, Never, Never},
		{1, Never, Never},
		{Never, 1, Never},
		{decades, 5 * time.Second, decades + 5*time.Second},
		{decades, Never, Never + decades},
		{decades, unset, unset / 2},
		{0, unset, unset / 2},
		{unset / 2, -1, unset / 2},
	} {
		require.Equal(t, c.want, Plus(c.t, c.d), "%d + %d", c.t, c.d)
	}
}
