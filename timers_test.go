package epore

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/epore/epore/backend"
)

// modelTimer is what a Timer should be, said in the simplest way.
type modelTimer struct {
	*Timer
	when, period time.Duration // when is unset if it is not set
	ticks        uint64
	closed       bool
	hand         backend.Key // of its last event
	inHand       bool        // that event is good
	given        bool        // and was given to the loop
}

// The heap against a list that is searched, by a clock that is made up.
func TestTimersAgainstAModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		p := new(Poll)
		p.timers.next.Store(int64(never))
		q := &p.timers
		var all []*modelTimer
		clock := time.Duration(rapid.IntRange(0, 1000).Draw(r, "clock"))
		pick := func(r *rapid.T) *modelTimer {
			if len(all) == 0 {
				r.Skip("none is there")
			}
			return all[rapid.IntRange(0, len(all)-1).Draw(r, "timer")]
		}
		duration := rapid.OneOf(
			rapid.Int64Range(0, 20), rapid.Int64Range(-5, 5000),
			rapid.SampledFrom([]int64{math.MaxInt64, math.MinInt64, math.MaxInt64 - 5000}),
		)
		// first is the time of the next expiry.
		first := func() time.Duration {
			next := never
			for _, m := range all {
				if m.when != unset {
					next = min(next, m.when)
				}
			}
			return next
		}
		set := func(m *modelTimer, when, period time.Duration) {
			err := q.set(m.Timer, when, period)
			if m.closed {
				require.ErrorIs(r, err, ErrClosed)
				return
			}
			require.NoError(r, err)
			m.when, m.period, m.ticks, m.inHand, m.given = when, period, 0, false, false
		}
		r.Repeat(map[string]func(*rapid.T){
			"": func(r *rapid.T) {
				require.LessOrEqual(r, q.next.Load(), int64(first()), "no timer is missed")
				require.LessOrEqual(r, len(q.heap)-top, 4*len(all)+16, "entries that are useless do not pile up")
				for _, m := range all {
					_, ok := p.table.interest(m.hand)
					require.Equal(r, m.inHand, m.hand != 0 && ok, "an event in hand is good until the timer is set anew or stopped")
				}
			},
			"new": func(r *rapid.T) {
				p.table.mu.Lock()
				defer p.table.mu.Unlock()
				m := &modelTimer{Timer: &Timer{poll: p, when: unset, queued: unset}, when: unset}
				m.key = p.table.insert(noHandle, Token(len(all)), Readable)
				p.table.takeNotes(m.key)
				all = append(all, m)
			},
			"set": func(r *rapid.T) {
				set(pick(r), plus(clock, time.Duration(duration.Draw(r, "in"))), 0)
			},
			"set to the time of another": func(r *rapid.T) {
				if m, other := pick(r), pick(r); other.when != unset {
					set(m, other.when, 0)
				}
			},
			"every": func(r *rapid.T) {
				d := time.Duration(max(duration.Draw(r, "period"), 1))
				set(pick(r), plus(clock, d), d)
			},
			"stop": func(r *rapid.T) {
				m := pick(r)
				require.Equal(r, !m.closed && (m.when != unset || m.inHand && !m.given), q.stop(m.Timer))
				m.when, m.inHand = unset, false
			},
			"close": func(r *rapid.T) {
				m := pick(r)
				require.Equal(r, !m.closed, q.close(m.Timer))
				if !m.closed {
					p.table.remove(keyIndex(m.key))
				}
				m.when, m.closed, m.inHand = unset, true, false
			},
			"ticks": func(r *rapid.T) {
				m := pick(r)
				require.Equal(r, m.ticks, m.Ticks())
				m.ticks = 0
			},
			"sleep": func(r *rapid.T) {
				until := q.earliest()
				require.Equal(r, first(), until)
				if until != never && rapid.Bool().Draw(r, "until then") {
					clock = max(clock, until)
				}
			},
			"take": func(r *rapid.T) {
				clock = min(plus(clock, time.Duration(rapid.IntRange(0, 3000).Draw(r, "later"))), never-1)
				room := rapid.SampledFrom([]int{1, 2, 100}).Draw(r, "room")
				dst := make([]backend.Event, room)
				dst = dst[:q.take(dst, clock)]
				for i, ev := range dst {
					_, ok := p.table.interest(ev.Key)
					require.True(r, ok)
					m := all[slices.IndexFunc(all, func(m *modelTimer) bool { return !m.closed && m.key == ev.Key })]
					require.Equal(r, first(), m.when, "event %d: in the order of deadlines", i)
					require.LessOrEqual(r, m.when, clock, "never early")
					m.ticks++
					if m.period > 0 {
						missed := (clock - m.when) / m.period
						m.ticks += uint64(missed)
						m.when = plus(m.when+missed*m.period, m.period)
					} else {
						m.when = unset
					}
					m.hand, m.inHand, m.given = ev.Key, true, false
				}
				if len(dst) < room {
					require.Greater(r, first(), clock, "all that are due")
				}
			},
			"give": func(r *rapid.T) {
				if m := pick(r); m.hand != 0 {
					_, ok := p.table.token(m.hand)
					require.Equal(r, m.inHand, ok)
					m.given = true
				}
			},
		})
	})
}
