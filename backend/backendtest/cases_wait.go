//go:build unix || windows

package backendtest

import (
	"math"
	"os"
	"os/signal"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// waitCases test when a wait ends and how many events it returns.
var waitCases = []wantedCase{
	// contract: P1, P2, P4
	{
		name: "an empty queue times out",
		rule: "P4: a wait that times out returns no error and no events; P2: it is never early",
		run: func(t *testing.T, q *queue) {
			begin := time.Now()
			require.Empty(t, q.wait(4, 30*time.Millisecond))
			require.GreaterOrEqual(t, time.Since(begin), 30*time.Millisecond)
		},
	},
	// contract: P1
	{
		name: "zero timeout collects what is ready",
		rule: "P1: a wait with a zero timeout does not block and still collects ready events",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable)
			require.Empty(t, q.wait(4, 0))
			b.Write("x")
			zero := time.Duration(0)
			if fixture.Wine { // reports readiness a moment later, by a signal to a thread of this process
				zero = soon
			}
			require.Len(t, q.wait(4, zero), 1)
			require.Len(t, q.wait(4, zero), 1, "again, because it was not read")
		},
	},
	// contract: P2
	{
		name: "a timeout is never early",
		rule: "P2: a wait without events lasts at least the timeout, which is rounded up, never down",
		run: func(t *testing.T, q *queue) {
			for _, timeout := range []time.Duration{
				1, time.Microsecond, 100 * time.Microsecond, 999_999,
				time.Millisecond, 1_500_001, 50 * time.Millisecond,
			} {
				for range 3 {
					begin := time.Now()
					require.Empty(t, q.wait(4, timeout))
					require.GreaterOrEqual(t, time.Since(begin), timeout)
				}
			}
		},
	},
	// contract: P1
	{
		name: "an idle wait sleeps",
		rule: "P1: a wait with nothing to report sleeps and does not poll repeatedly",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable)
			q.silent("nothing written")
			before := q.rounds
			require.Empty(t, q.wait(4, 4*quiet))
			require.LessOrEqual(t, q.rounds-before, 10)
			before = q.rounds
			answer := q.start(4, forever)
			select {
			case <-answer:
				t.Fatal("nothing was written")
			case <-time.After(4 * quiet):
			}
			b.Write("x")
			require.Len(t, <-answer, 1)
			require.LessOrEqual(t, q.rounds-before, 10)
		},
	},
	// contract: P3
	{
		name: "a huge timeout is not an error",
		rule: "P3: a timeout too long for the kernel still waits that long",
		run: func(t *testing.T, q *queue) {
			for _, timeout := range []time.Duration{
				25 * 24 * time.Hour, 100_000_001 * time.Second, math.MaxInt64 - 1, math.MaxInt64,
			} {
				a, b := fixture.Pair(t)
				q.add(a, 1, backend.Readable)
				answer := q.start(4, timeout)
				select {
				case events := <-answer:
					t.Fatalf("a wait of %v returned at once, with %v", timeout, events)
				case <-time.After(quiet):
				}
				b.Write("x")
				require.Len(t, <-answer, 1)
				q.remove(a)
			}
		},
	},
	// contract: P4
	{
		name: "signals do not end a wait",
		rule: "P4: a signal does not end a wait, which continues for the rest of the timeout",
		run: func(t *testing.T, q *queue) {
			caught := make(chan os.Signal, 64)
			signal.Notify(caught, fixture.UserSignal)
			defer signal.Stop(caught)
			begin := time.Now()
			const timeout = 60 * time.Millisecond
			answer := q.start(4, timeout)
			for range 20 {
				fixture.Signal(t, q.thread) // by now mostly in its Wait
				<-caught
			}
			require.Empty(t, <-answer)
			require.GreaterOrEqual(t, time.Since(begin), timeout)
		},
	},
	// contract: P5
	{
		name: "capacity one with many ready",
		rule: "P5: a wait returns at most as many events as there is room for; the others come later, none is lost, none comes twice",
		run: func(t *testing.T, q *queue) {
			const n = 40
			for i := range n {
				a, b := fixture.Pair(t)
				b.Write("x")
				q.add(a, backend.Key(i+1), backend.Readable|edgeOr(q, backend.OneShot))
			}
			seen := make(map[backend.Key]int)
			for range n {
				events := q.wait(1, soon)
				require.Len(t, events, 1)
				seen[events[0].Key]++
			}
			require.Len(t, seen, n)
			q.silent("each has been reported, no new data")
		},
		needs: backend.OneShot,
	},
	// contract: P5
	{
		name: "level with room for one serves all in turn",
		rule: "P5: events without room come with the next wait: no ready source starves another",
		run: func(t *testing.T, q *queue) {
			const n = 12
			for i := range n {
				a, b := fixture.Pair(t)
				b.Write("x")
				q.add(a, backend.Key(i+1), backend.Readable)
			}
			seen := make(map[backend.Key]bool)
			for range 2 * n {
				for _, ev := range q.wait(1, soon) {
					seen[ev.Key] = true
				}
			}
			require.Len(t, seen, n, "%d sources are always ready, with room for one", n)
		},
	},
	// contract: P5
	{
		name: "more ready than capacity",
		rule: "P5: events without room come with the next wait; none is lost, none comes twice",
		run: func(t *testing.T, q *queue) {
			const n, capacity = 80, 32
			for i := range n {
				a, b := fixture.Pair(t)
				b.Write("x")
				q.add(a, backend.Key(i+1), backend.Readable|backend.OneShot)
			}
			seen := make(map[backend.Key]int)
			for len(seen) < n {
				events := q.wait(capacity, soon)
				require.NotEmpty(t, events)
				require.LessOrEqual(t, len(events), capacity)
				for _, ev := range events {
					seen[ev.Key]++
					require.Equal(t, 1, seen[ev.Key], "key %d came twice", ev.Key)
				}
			}
			q.silent("all have been reported once")
		},
		needs: backend.OneShot,
	},
	{
		name: "wake ends the wait in progress",
		rule: "Wake ends the wait in progress or, if there is none, the next wait that would block",
		run: func(t *testing.T, q *queue) {
			for range 100 {
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					q.once(4, forever)
				}()
				require.NoError(t, q.Wake())
				<-ended
			}
		},
	},
	{
		name: "wake before a wait ends the next",
		rule: "Wake ends the wait in progress or, if there is none, the next wait that would block",
		run: func(t *testing.T, q *queue) {
			for range 100 {
				require.NoError(t, q.Wake())
				require.Empty(t, q.once(4, forever))
			}
		},
	},
	{
		name: "a wake is not an event",
		rule: "Wake ends a wait; it gives no event and takes no event's place",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			b.Write("x")
			q.add(a, 7, backend.Readable)
			for range 20 {
				require.NoError(t, q.Wake())
				events := q.wait(1, soon)
				require.Len(t, events, 1)
				require.Equal(t, backend.Key(7), events[0].Key)
			}
		},
	},
	{
		name: "a wake hides no event",
		rule: "Wait returns fewer events than it has room for only if no other source is ready, even if a wake takes room in the kernel's batch",
		run: func(t *testing.T, q *queue) {
			for k := backend.Key(1); k < 50; k++ {
				a, b := fixture.Pair(t)
				q.add(a, k, backend.Readable)
				require.NoError(t, q.Wake()) // before the event, so it comes first
				b.Write("x")
				events := q.once(1, forever)
				if fixture.Wine && len(events) == 0 { // reports readiness a moment later
					events = q.wait(1, soon)
				}
				require.Len(t, events, 1)
				q.remove(a)
				a.Close()
				b.Close()
			}
		},
	},
	// contract: P6
	{
		name: "a wake in the last place of a full batch",
		rule: "a Wait never reports the same bit of the same registration twice",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			c, d := fixture.Pair(t)
			q.add(a, 1, backend.Readable)
			q.add(c, 2, backend.Readable)
			b.Write("x")
			d.Write("x")
			for range 20 {
				require.NoError(t, q.Wake()) // behind the two sources: it takes the third place
				for _, ev := range q.wait(3, soon) {
					require.Contains(t, []backend.Key{1, 2}, ev.Key)
				}
			}
		},
	},
	{
		name: "many wakes at once",
		rule: "Wake may be called from any goroutine; wakes coalesce and none is lost",
		run: func(t *testing.T, q *queue) {
			done := make(chan error, 100)
			for range cap(done) {
				go func() { done <- q.Wake() }()
			}
			q.once(4, forever)
			for range cap(done) {
				require.NoError(t, <-done)
			}
			require.NoError(t, q.Wake())
			q.once(4, forever)
		},
	},
}
