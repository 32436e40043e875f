//go:build unix || windows

package epore_test

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

const mailboxRule = "S2: order per sender is kept; nothing is lost or doubled; an event while there is something to receive"

func newMailbox[T any](t testing.TB, p *epore.Poll, token epore.Token) *epore.Mailbox[T] {
	t.Helper()
	m, err := epore.NewMailbox[T](p.Registry(), token)
	require.NoError(t, err)
	return m
}

// contract: S2
func TestMailbox_SendAndReceive(t *testing.T) {
	eachStrategy(t, mailboxRule, func(t *testing.T, p *epore.Poll) {
		m := newMailbox[int](t, p, 7)
		events := epore.NewEvents(4)
		event := []epore.Event{{Token: 7, Ready: 1}}
		require.Empty(t, tokens(t, p))
		_, ok := m.Receive()
		require.False(t, ok)

		for i := range 10 {
			require.NoError(t, m.Send(i))
		}
		require.Equal(t, 10, m.Len())
		for i := range 5 {
			require.Equal(t, event, next(t, p, events), "one value for each event")
			v, ok := m.Receive()
			require.True(t, ok)
			require.Equal(t, i, v)
		}
		require.Equal(t, event, next(t, p, events))
		require.Equal(t, event, next(t, p, events), "none, and it comes again")
		require.NoError(t, m.Send(10))
		want := 5
		for v := range m.All() {
			require.Equal(t, want, v)
			if want++; want == 8 {
				break
			}
		}
		require.Equal(t, event, next(t, p, events), "left half-way")
		require.PanicsWithValue(t, "in the loop", func() {
			for range m.All() {
				panic("in the loop")
			}
		})
		require.Equal(t, event, next(t, p, events))
		require.Equal(t, []int{9, 10}, slices.Collect(m.All()))
		require.Empty(t, ready(t, p, events), "taken all, no event for nothing")
		require.NoError(t, p.Poll(events, time.Millisecond))
		require.Empty(t, all(events))

		require.NoError(t, m.Send(11))
		require.NoError(t, p.Poll(events, 0))
		require.Equal(t, []int{11}, slices.Collect(m.All()), "before the event is looked at")
		require.Empty(t, ready(t, p, events))
		require.NoError(t, m.Send(12))
		require.Equal(t, []int{12}, slices.Collect(m.All()), "before the Poll")
		require.Empty(t, ready(t, p, events))

		require.NoError(t, m.Send(13))
		for v := range m.All() {
			require.Equal(t, 13, v, "what is sent meanwhile is for the next event")
			require.NoError(t, m.Send(14))
		}
		require.Equal(t, event, next(t, p, events))
		require.Equal(t, []int{14}, slices.Collect(m.All()))
	})
}

// contract: S2
func TestMailbox_EndsAWait(t *testing.T) {
	eachStrategy(t, "S2: Send from any goroutine wakes the Poll", func(t *testing.T, p *epore.Poll) {
		m := newMailbox[string](t, p, 7)
		events := epore.NewEvents(4)
		for range 500 {
			polled := asleep(p, func() error { return p.Poll(events, forever) })
			require.NoError(t, m.Send("x"))
			require.NoError(t, <-polled)
			require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, all(events))
			require.Equal(t, []string{"x"}, slices.Collect(m.All()))
		}
	})
}

// contract: S2
func TestMailbox_NoSendIsLost(t *testing.T) {
	eachStrategy(t, mailboxRule, func(t *testing.T, p *epore.Poll) {
		m := newMailbox[int](t, p, 7)
		pingPong(t, p, func() error { return m.Send(1) }, func() {
			_, ok := m.Receive()
			require.True(t, ok)
		})
	})
}

// pingPong gives p an event by send again and again, each time after the previous one was
// received. This finds the loop in different places: looking for more, announcing its sleep,
// sleeping. (Of 100,000 rounds on two processors, at least some hundreds found each.)
func pingPong(t *testing.T, p *epore.Poll, send func() error, receive func()) {
	const noMore = -1
	var begun atomic.Int64 // rounds
	over := make(chan bool)
	go func() {
		defer close(over)
		random := rand.New(rand.NewPCG(1, 2))
		for round := int64(1); ; round++ {
			for n := 1; begun.Load() < round; n++ {
				if begun.Load() == noMore || n%1000 == 0 && t.Failed() {
					return
				}
				if n%1000 == 0 {
					runtime.Gosched() // or the loop has no processor
				}
			}
			for n := random.IntN(2 << random.IntN(15)); n > 0; n-- {
				begun.Load() // up to some microseconds, more often less
			}
			if err := send(); err != nil {
				panic(err) // the loop would wait for ever
			}
		}
	}()
	events := epore.NewEvents(1)
	for range backendtest.Rounds(t, 1000, 100_000) {
		begun.Add(1)
		require.NoError(t, p.Poll(events, forever))
		require.Len(t, all(events), 1)
		receive()
	}
	begun.Store(noMore)
	<-over
	require.Empty(t, ready(t, p, events))
}

// What a goroutine has sent is there when the same goroutine polls, even if others send as
// well.
// contract: S2
func TestMailbox_SendFromTheLoop(t *testing.T) {
	eachStrategy(t, mailboxRule, func(t *testing.T, p *epore.Poll) {
		m := newMailbox[int](t, p, 7)
		var stop atomic.Bool
		var others sync.WaitGroup
		for range 3 {
			others.Go(func() {
				for !stop.Load() {
					if m.Len() < 100 {
						assert.NoError(t, m.Send(1))
					}
					runtime.Gosched()
				}
			})
		}
		events := epore.NewEvents(1)
		for range 500 {
			require.NoError(t, m.Send(2))
			require.NoError(t, p.Poll(events, 0))
			if events.Len() != 1 {
				t.Error("sent, and no event")
				break
			}
			for range m.All() {
			}
		}
		stop.Store(true)
		others.Wait()
	})
}

// contract: S2
func TestMailbox_ManySenders(t *testing.T) {
	eachStrategy(t, mailboxRule, func(t *testing.T, p *epore.Poll) {
		const senders = 8
		each := 2000
		if backendtest.Long() {
			each = 200_000
		}
		m := newMailbox[[2]int](t, p, 7)
		var sending sync.WaitGroup
		for s := range senders {
			sending.Go(func() {
				random := rand.New(rand.NewPCG(uint64(s), 1))
				for i := range each {
					assert.NoError(t, m.Send([2]int{s, i}))
					if random.IntN(50) == 0 {
						runtime.Gosched()
					}
				}
			})
		}
		go func() {
			sending.Wait()
			assert.NoError(t, m.CloseSend())
		}()
		events := epore.NewEvents(4)
		var got [senders]int
		receive := func(v [2]int) {
			require.Equal(t, got[v[0]], v[1], "of sender %d", v[0])
			got[v[0]]++
		}
		random := rand.New(rand.NewPCG(9, 9))
		for ended := false; !ended; {
			evs := next(t, p, events)
			require.Len(t, evs, 1)
			ended = evs[0].ReadClosed()
			switch take := random.IntN(3); {
			case ended || take == 0:
				for v := range m.All() {
					receive(v)
				}
			case take == 1:
				v, ok := m.Receive()
				require.True(t, ok, "no event for nothing")
				receive(v)
			default:
				for v := range m.All() {
					if receive(v); random.IntN(100) == 0 {
						break
					}
				}
			}
		}
		for s, n := range got {
			require.Equal(t, each, n, "of sender %d", s)
		}
		require.Zero(t, m.Len())
		require.NoError(t, m.Close())
	})
}

// contract: S2
func TestMailbox_CoalescedSendsMakeNoSystemCall(t *testing.T) {
	p, f := openFake(t)
	m := newMailbox[int](t, p, 7)
	events := epore.NewEvents(4)
	polled := asleep(p, func() error { return p.Poll(events, epore.Forever) })
	for i := range 1000 {
		require.NoError(t, m.Send(i))
	}
	require.NoError(t, <-polled)
	require.Equal(t, 1, f.Wakes(), "S2: one wake for many sends")
	require.Len(t, slices.Collect(m.All()), 1000)
	require.NoError(t, m.Send(1))
	require.Equal(t, 1, f.Wakes(), "S2: nobody waits")
	require.NoError(t, p.Poll(events, epore.Forever))
	require.Len(t, collect(events), 1)
	for range m.All() {
	}
	polled = asleep(p, func() error { return p.Poll(events, epore.Forever) })
	require.NoError(t, m.Send(1))
	require.NoError(t, <-polled)
	require.Equal(t, 2, f.Wakes())
}

// A mailbox that was drained does not cost the Poll another look before its sleep.
// contract: S2
func TestMailbox_DrainedCostsNothing(t *testing.T) {
	f := &recordingFake{Fake: backendtest.NewFake()}
	f.asleep = func() { f.SetReady(5, backend.ReadyReadable) }
	p, err := epore.NewWith(f, epore.WithStrategy(epore.Block))
	require.NoError(t, err)
	defer p.Close()
	m := newMailbox[int](t, p, 7)
	events := epore.NewEvents(4)
	for range 3 {
		require.NoError(t, m.Send(1))
		require.NoError(t, p.Poll(events, epore.Forever))
		require.Len(t, slices.Collect(m.All()), 1)
		f.timeouts = nil
		require.NoError(t, p.Registry().Register(five, 1, epore.Readable))
		require.NoError(t, p.Poll(events, epore.Forever))
		require.Equal(t, []time.Duration{0, epore.Forever}, f.timeouts)
		f.SetReady(5, 0)
		require.NoError(t, p.Registry().Deregister(five))
	}
}

// contract: S2
func TestMailbox_Bounded(t *testing.T) {
	eachStrategy(t, "S2: with a bound, Send fails with ErrFull, and does not wait", func(t *testing.T, p *epore.Poll) {
		const bound = 5
		m, err := epore.NewBoundedMailbox[int](p.Registry(), 7, bound)
		require.NoError(t, err)
		events := epore.NewEvents(4)
		sent, received := 0, 0
		for range 100 {
			for m.Len() < bound {
				require.NoError(t, m.Send(sent))
				sent++
			}
			require.ErrorIs(t, m.Send(-1), epore.ErrFull)
			require.ErrorContains(t, m.Send(-1), "send to a Mailbox: full")
			require.Len(t, next(t, p, events), 1)
			for range 1 + received%bound {
				v, ok := m.Receive()
				require.True(t, ok)
				require.Equal(t, received, v)
				received++
			}
		}
		require.NoError(t, m.CloseSend())
		require.ErrorIs(t, m.Send(-1), epore.ErrClosed, "rather than full")
		require.Equal(t, sent-received, len(slices.Collect(m.All())))

		// Senders that try again deliver everything.
		m, err = epore.NewBoundedMailbox[int](p.Registry(), 8, bound)
		require.NoError(t, err)
		var sending sync.WaitGroup
		const each = 200
		for range 3 {
			sending.Go(func() {
				for i := 0; i < each; {
					if err := m.Send(i); err == nil {
						i++
					} else {
						assert.ErrorIs(t, err, epore.ErrFull)
						runtime.Gosched()
					}
				}
			})
		}
		for n := 0; n < 3*each; {
			require.NoError(t, p.Poll(events, forever))
			require.LessOrEqual(t, m.Len(), bound)
			for range m.All() {
				n++
			}
		}
		sending.Wait()
	})
}

// contract: S2
func TestMailbox_CloseSend(t *testing.T) {
	eachStrategy(t, "S2: after CloseSend what is left is received with its events, and then the end is reported", func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(4)
		const readable, readClosed = 1, 16
		ended := []epore.Event{{Token: 7, Ready: readable | readClosed}}
		m := newMailbox[int](t, p, 7)
		require.NoError(t, m.Send(1))
		require.NoError(t, m.Send(2))
		require.NoError(t, m.CloseSend())
		require.NoError(t, m.CloseSend())
		require.ErrorIs(t, m.Send(3), epore.ErrClosed)
		for i := range 2 {
			require.Equal(t, ended, next(t, p, events))
			v, ok := m.Receive()
			require.True(t, ok)
			require.Equal(t, i+1, v)
		}
		for range 3 {
			require.Equal(t, ended, next(t, p, events), "until it is closed")
		}
		_, ok := m.Receive()
		require.False(t, ok)
		require.NoError(t, m.Close())
		require.Empty(t, all(events))
		require.Empty(t, ready(t, p, events))
		require.NoError(t, m.CloseSend())
		require.Empty(t, ready(t, p, events))

		m = newMailbox[int](t, p, 7)
		polled := asleep(p, func() error { return p.Poll(events, forever) })
		require.NoError(t, m.CloseSend())
		require.NoError(t, <-polled)
		require.Equal(t, ended, all(events), "of an empty one, too")
	})
}

// contract: R6, S2
func TestMailbox_Closed(t *testing.T) {
	eachStrategy(t, "R6, S2: a closed Mailbox is silent, also in the batch in hand, and answers ErrClosed; what is left can be received", func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(4)
		m, other := newMailbox[int](t, p, 1), newMailbox[int](t, p, 2)
		for i := range 5 {
			require.NoError(t, m.Send(i))
			require.NoError(t, other.Send(i))
		}
		v, ok := m.Receive()
		require.True(t, ok)
		require.Zero(t, v)
		require.NoError(t, m.Close())
		require.NoError(t, m.Close())
		require.ErrorIs(t, m.Send(6), epore.ErrClosed)
		require.Equal(t, 4, m.Len())
		require.Equal(t, []epore.Event{{Token: 2, Ready: 1}}, ready(t, p, events))
		require.NoError(t, other.Close())
		require.Empty(t, all(events), "closed with its event in hand")
		require.Empty(t, ready(t, p, events), "no event after Close")
		require.Equal(t, []int{1, 2, 3, 4}, slices.Collect(m.All()))
		require.Zero(t, m.Len())

		again := newMailbox[int](t, p, 3)
		require.NoError(t, again.Send(1))
		require.Equal(t, []epore.Event{{Token: 3, Ready: 1}}, next(t, p, events), "others go on")
		for range events.All() {
			require.NoError(t, again.Close(), "inside the loop")
		}
		require.Empty(t, ready(t, p, events))

		last := newMailbox[int](t, p, 4)
		require.NoError(t, last.Send(9))
		require.NoError(t, p.Close())
		require.ErrorIs(t, last.Send(10), epore.ErrClosed)
		require.NoError(t, last.CloseSend())
		require.Equal(t, []int{9}, slices.Collect(last.All()), "what is left, after the Poll was closed")
		require.NoError(t, last.Close())
		require.NoError(t, last.Close())
	})
}

// contract: S2
func TestMailbox_ClosedWhileSending(t *testing.T) {
	eachStrategy(t, "S2: what Send took before Close is received, once, and nothing else", func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(4)
		for round := range 30 {
			m, err := epore.NewBoundedMailbox[int](p.Registry(), 7, 1000)
			require.NoError(t, err)
			var taken atomic.Int64
			var sending sync.WaitGroup
			for range 3 {
				sending.Go(func() {
					for {
						err := m.Send(1)
						switch {
						case err == nil:
							taken.Add(1)
						case !errors.Is(err, epore.ErrFull):
							assert.ErrorIs(t, err, epore.ErrClosed)
							return
						}
						runtime.Gosched()
					}
				})
			}
			received := 0
			for range round {
				require.NoError(t, p.Poll(events, forever))
				for range m.All() {
					received++
				}
			}
			require.NoError(t, m.Close())
			left := m.Len()
			sending.Wait()
			require.Equal(t, left, m.Len(), "nothing is added after Close has returned")
			for range m.All() {
				received++
			}
			require.EqualValues(t, taken.Load(), received)
			require.Empty(t, ready(t, p, events))
		}
	})
}

// contract: S2
func TestMailbox_KeepsNothing(t *testing.T) {
	p := open(t)
	guard(t, "S2: what was received is not held on to, and the memory of a burst is given back")
	m := newMailbox[*[1024]int](t, p, 7)
	var collected atomic.Int32
	const n = 10
	for range n {
		v := new([1024]int)
		runtime.AddCleanup(v, func(int) { collected.Add(1) }, 0)
		require.NoError(t, m.Send(v))
	}
	for range n / 2 {
		_, ok := m.Receive()
		require.True(t, ok)
	}
	for collected.Load() < n/2 {
		runtime.GC()
		runtime.Gosched()
	}
	for range m.All() {
	}
	for collected.Load() < n {
		runtime.GC()
		runtime.Gosched()
	}

	b := newMailbox[int](t, p, 7)
	burst := func(n int) {
		for i := range n {
			require.NoError(t, b.Send(i))
		}
		require.Equal(t, n, len(slices.Collect(b.All())))
	}
	burst(10_000)
	require.GreaterOrEqual(t, b.Room(), 10_000)
	for range 20 {
		burst(10_000)
	}
	require.GreaterOrEqual(t, b.Room(), 2*10_000, "room that is often needed is kept")
	for range 100 {
		burst(10)
	}
	require.Less(t, b.Room(), 200, "room that is not needed is given back")

	large := newMailbox[[1 << 16]byte](t, p, 8)
	for range 2 {
		for range 100 {
			require.NoError(t, large.Send([1 << 16]byte{}))
		}
		for range large.All() {
		}
	}
	require.NoError(t, large.Send([1 << 16]byte{}))
	_, ok := large.Receive()
	require.True(t, ok)
	require.Less(t, large.Room(), 100, "megabytes are not kept")
}

// Random sequences of all operations are compared with a list.
// contract: S2
func TestMailbox_BehavesLikeAQueue(t *testing.T) {
	p := open(t)
	guard(t, mailboxRule)
	events := epore.NewEvents(4)
	rapid.Check(t, func(r *rapid.T) {
		bound := rapid.SampledFrom([]int{0, 1, 3}).Draw(r, "bound")
		m, err := epore.NewMailbox[int](p.Registry(), 7)
		if bound > 0 {
			m, err = epore.NewBoundedMailbox[int](p.Registry(), 7, bound)
		}
		require.NoError(r, err)
		defer m.Close()
		var inside []int
		var ended, closed bool
		sent := 0
		take := func(v int, ok bool) {
			require.Equal(r, len(inside) > 0, ok)
			if ok {
				require.Equal(r, inside[0], v)
				inside = inside[1:]
			}
		}
		r.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { require.Equal(r, len(inside), m.Len()) },
			"send": func(r *rapid.T) {
				for range rapid.SampledFrom([]int{1, 1, 2, 100}).Draw(r, "values") {
					sent++
					err := m.Send(sent)
					switch {
					case ended || closed:
						require.ErrorIs(r, err, epore.ErrClosed)
					case bound > 0 && len(inside) == bound:
						require.ErrorIs(r, err, epore.ErrFull)
					default:
						require.NoError(r, err)
						inside = append(inside, sent)
					}
				}
			},
			"receive": func(*rapid.T) { take(m.Receive()) },
			"all": func(r *rapid.T) {
				left := rapid.IntRange(1, 200).Draw(r, "at most")
				for v := range m.All() {
					take(v, true)
					if left--; left == 0 {
						break
					}
				}
				require.True(r, left == 0 || len(inside) == 0)
			},
			"poll": func(*rapid.T) {
				require.NoError(r, p.Poll(events, 0))
				var want []epore.Event
				switch {
				case closed:
				case ended:
					want = []epore.Event{{Token: 7, Ready: 1 | 16}}
				case len(inside) > 0:
					want = []epore.Event{{Token: 7, Ready: 1}}
				}
				require.Equal(r, want, all(events))
			},
			"close for senders": func(r *rapid.T) {
				if rapid.IntRange(0, 9).Draw(r, "really") == 9 {
					require.NoError(r, m.CloseSend())
					ended = true
				}
			},
			"close": func(r *rapid.T) {
				if rapid.IntRange(0, 9).Draw(r, "really") == 9 {
					require.NoError(r, m.Close())
					closed = true
				}
			},
		})
	})
}
