//go:build unix || windows

package backendtest

import (
	"io/fs"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// concurrencyCases: changes beside a wait in progress.
var concurrencyCases = []wantedCase{
	{
		name: "register while another waits",
		rule: "R1: a blocked wait sees a new source without being woken by hand; one readiness is one event",
		run: func(t *testing.T, q *queue) {
			mode := edgeOr(q, 0)
			for k := backend.Key(1); k <= 200; k++ {
				a, b := fixture.Pair(t)
				answer := q.start(4, forever)
				q.add(a, k, backend.Readable|mode)
				b.Write("x")
				events := <-answer
				require.Len(t, events, 1, "exactly one event")
				require.Equal(t, k, events[0].Key)
				if mode == backend.Edge && !q.Capabilities().OneThread {
					// Else the waiter did the registering, perhaps beside the write: there
					// was a byte to read when it looked, and then the news of it.
					require.Empty(t, q.wait(4, 0), "and no second")
				}
				q.remove(a)
				a.Close()
				b.Close()
			}
		},
	},
	{
		name: "register a ready source while another waits",
		rule: "R1, R2: a source that is ready already ends a wait in progress",
		run: func(t *testing.T, q *queue) {
			for k := backend.Key(1); k <= 200; k++ {
				a, b := fixture.Pair(t)
				b.Write("x")
				answer := q.start(4, forever)
				q.add(a, k, backend.Readable)
				events := <-answer
				require.Len(t, events, 1)
				require.Equal(t, k, events[0].Key)
				q.remove(a)
				a.Close()
				b.Close()
			}
		},
	},
	{
		name: "reregister while another waits",
		rule: "R1, R5: a wait in progress sees the new interest",
		run: func(t *testing.T, q *queue) {
			q.strict = false // a batch may be in flight with the old key
			a, b := fixture.Pair(t)
			b.Write("x")
			a.Fill()
			q.add(a, 1, backend.Priority&q.Capabilities().Interests|backend.Writable)
			for k := backend.Key(2); k < 200; k += 2 {
				answer := q.start(4, forever)
				q.modify(a, k, backend.Readable)
				events := <-answer
				require.Len(t, events, 1)
				require.Equal(t, k, events[0].Key)
				require.Equal(t, backend.ReadyReadable, events[0].Ready)
				q.modify(a, k+1, backend.Writable)
				require.Empty(t, q.wait(4, 0), "no room to write")
			}
		},
	},
	{
		name: "deregister while another waits",
		rule: "R1, R6: a source deregistered beside a wait in progress does not end it any more",
		run: func(t *testing.T, q *queue) {
			other, wakes := fixture.Pair(t)
			q.add(other, 1, backend.Readable)
			for k := backend.Key(2); k < 200; k++ {
				a, b := fixture.Pair(t)
				q.add(a, k, backend.Readable)
				answer := q.start(4, forever)
				q.remove(a)
				b.Write("x")
				wakes.Write("y")
				events := <-answer
				require.Len(t, events, 1)
				require.Equal(t, backend.Key(1), events[0].Key)
				other.Drain()
				a.Close()
				b.Close()
			}
		},
	},
	{
		name: "a registering thread ends",
		rule: "R1: a registration is the queue's: the thread it was made on may end, also while another waits",
		run: func(t *testing.T, q *queue) {
			for _, mode := range modesOf(q) {
				for _, waiting := range []bool{false, true} {
					a, b := fixture.Pair(t)
					other, wakes := fixture.Pair(t)
					q.add(other, 1, backend.Readable)
					var wait <-chan []backend.Event
					if waiting {
						wait = q.start(4, forever)
					}
					var err error
					fixture.OnEndingThread(t, func() { err = q.Add(a.Handle(), 2, backend.Readable|mode) })
					require.NoError(t, err)
					if waiting { // and the thread has ended
						wakes.Write("x")
						require.Len(t, <-wait, 1)
						other.Drain()
					}
					q.silent("nothing written")
					b.Write("x")
					require.Equal(t, backend.ReadyReadable, q.expect(2), "mode %v", mode)
					a.Drain()
					fixture.OnEndingThread(t, func() { err = q.Modify(a.Handle(), 3, backend.Readable|mode) })
					require.NoError(t, err)
					b.Write("x")
					require.Equal(t, backend.ReadyReadable, q.expect(3), "mode %v", mode)
					q.remove(a)
					q.remove(other)
				}
			}
		},
	},
	{
		name: "three goroutines change at random",
		rule: "R1: Register, Reregister, Deregister from any goroutine at any time, also while another waits; R3, R4 stay exact",
		run: func(t *testing.T, q *queue) {
			q.strict = false
			rounds := Rounds(t, 2000, 50_000)
			var waiting, changing sync.WaitGroup
			over := make(chan struct{})
			waiting.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
						q.once(8, forever)
					}
				}
			})
			for g := range 3 {
				a, b := fixture.Pair(t)
				b.Write("x")
				changing.Go(func() {
					random := rand.New(rand.NewPCG(1, uint64(g)))
					modes := modesOf(q)
					k := backend.Key(g+1) << 32
					registered := false
					check := func(err error, should bool, want error) {
						if should && err != nil {
							t.Errorf("%v, should be nil", err)
						} else if !should {
							requireIs(t, err, want)
						}
					}
					for range rounds {
						k++
						in := backend.Readable | modes[random.IntN(len(modes))]
						switch random.IntN(3) {
						case 0:
							err := q.Add(a.Handle(), k, in)
							check(err, !registered, fs.ErrExist)
							registered = true
						case 1:
							check(q.Modify(a.Handle(), k, in), registered, fs.ErrNotExist)
						case 2:
							check(q.Delete(a.Handle()), registered, fs.ErrNotExist)
							registered = false
						}
					}
				})
			}
			changing.Wait()
			close(over)
			require.NoError(t, q.Wake())
			waiting.Wait()
		},
	},
	{
		name: "writers on many sources while the loop reads",
		rule: "R1, M2: nothing is lost between goroutines that write and a loop that waits; M9: and spurious events are rare",
		run: func(t *testing.T, q *queue) {
			const sources = 16
			bytes := 500
			if Long() {
				bytes = 50_000
			}
			var ends []*fixture.End
			var writers sync.WaitGroup
			for i := range sources {
				a, b := fixture.Pair(t)
				ends = append(ends, a)
				q.add(a, backend.Key(i+1), backend.Readable|edgeOr(q, 0))
				writers.Go(func() {
					for range bytes {
						for { // the buffer may be full for a while
							_, err := b.TryWrite([]byte("x"))
							if err == nil {
								break
							}
							if !fixture.WouldBlock(err) {
								t.Errorf("write: %v", err)
								return
							}
							b.AwaitWritable()
						}
						runtime.Gosched() // or each would write all at once
					}
				})
			}
			total, count, spurious := 0, 0, 0
			for total < sources*bytes {
				events := q.wait(8, soon)
				if len(events) == 0 {
					t.Errorf("%d of %d bytes, and no event", total, sources*bytes)
					break
				}
				for _, ev := range events {
					n, _ := ends[ev.Key-1].Drain()
					total += n
					count++
					if n == 0 {
						spurious++
					}
				}
			}
			writers.Wait()
			require.Equal(t, sources*bytes, total)
			require.LessOrEqual(t, spurious, 3+count/1000, "of %d events", count)
		},
	},
}

// requireIs is require.ErrorIs for goroutines other than the test's.
func requireIs(t *testing.T, err, want error) {
	if err == nil {
		t.Errorf("no error, should be %v", want)
	} else {
		assert.ErrorIs(t, err, want)
	}
}
