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

// concurrencyCases test changes during a wait.
var concurrencyCases = []wantedCase{
	// contract: R1
	{
		name: "register during a wait",
		rule: "R1: a wait in progress sees a new source without a Wake; one readiness is one event",
		run: func(t *testing.T, q *queue) {
			mode := edgeOr(q, 0)
			for k := backend.Key(1); k <= 200; k++ {
				a, b := fixture.Pair(t)
				answer := q.start(4, forever)
				q.add(a, k, backend.Readable|mode)
				b.Write("x")
				events := <-answer
				require.Len(t, events, 1, "one event")
				require.Equal(t, k, events[0].Key)
				if mode == backend.Edge && !q.Capabilities().OneThread {
					// A queue of one thread registers in its Wait, perhaps during the write.
					// Then it sees the byte when it looks, and the edge of it later.
					require.Empty(t, q.wait(4, 0), "no second event")
				}
				q.remove(a)
				a.Close()
				b.Close()
			}
		},
	},
	// contract: R1, R2
	{
		name: "register a ready source during a wait",
		rule: "R1, R2: registering a source that is already ready ends a wait in progress",
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
	// contract: R1, R5
	{
		name: "reregister during a wait",
		rule: "R1, R5: a wait in progress sees the new interest",
		run: func(t *testing.T, q *queue) {
			q.strict = false // a batch with the old key may be in flight
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
	// contract: R1, R6
	{
		name: "deregister during a wait",
		rule: "R1, R6: a source deregistered during a wait no longer ends it",
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
	// contract: R1
	{
		name: "a registering thread ends",
		rule: "R1: a registration belongs to the queue: the thread that made it may end, also during a wait",
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
					if waiting { // the registering thread has ended
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
	// contract: R1, R3, R4
	{
		name: "three goroutines change at random",
		rule: "R1: Register, Reregister and Deregister work from any goroutine at any time, also during a wait; R3 and R4 stay exact",
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
							t.Errorf("unexpected error: %v", err)
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
	// contract: R1, M2, M9
	{
		name: "writers on many sources while the loop reads",
		rule: "R1, M2: a loop misses nothing that other goroutines write; M9: spurious events are rare",
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
						for { // the buffer may be full
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
						runtime.Gosched() // so that the writers take turns
					}
				})
			}
			total, count, spurious := 0, 0, 0
			for total < sources*bytes {
				events := q.wait(8, soon)
				if len(events) == 0 {
					t.Errorf("no event after %d of %d bytes", total, sources*bytes)
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
			t.Logf("%d of %d events are spurious", spurious, count)
			require.LessOrEqual(t, spurious, 3+count/1000, "of %d events", count)
		},
	},
}

// requireIs is require.ErrorIs for goroutines other than that of the test.
func requireIs(t *testing.T, err, want error) {
	if err == nil {
		t.Errorf("no error, want %v", want)
	} else {
		assert.ErrorIs(t, err, want)
	}
}
