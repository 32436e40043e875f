//go:build unix

package kqueue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/kq"
)

// The knotes for reading and writing make one event, also with little room, and with a
// wake among the events.
// contract: P6
func TestWait_TwoKnotesMakeOneEvent(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		const n = 4
		for k := range backend.Key(n) {
			a, b := fixture.Pair(t)
			b.Write("x")
			require.NoError(t, q.Add(a.Handle(), k+1, backend.Readable|backend.Writable))
		}
		for _, room := range []int{n, n + 1, 2 * n, 64} {
			require.NoError(t, q.Wake())
			seen := make(map[backend.Key]backend.Readiness)
			for _, ev := range wait(t, q, room, 0) {
				require.Zero(t, seen[ev.Key], "key %d came twice", ev.Key)
				seen[ev.Key] = ev.Ready
			}
			require.Len(t, seen, n, "room for %d", room)
			for k, r := range seen {
				if room > n {
					require.Equal(t, backend.ReadyReadable|backend.ReadyWritable, r, "key %d, room for %d", k, room)
				}
			}
		}
		for range 4 * n {
			require.Len(t, wait(t, q, 1, 0), 1)
		}
	})
}

// A one-shot registration that is ready in both directions has one event. Its other
// knote, which takes room in the kernel's batch, hides no other event.
// contract: P6, M3
func TestWait_OneShotWithTwoKnotes(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		const n = 6
		var ends []*fixture.End
		for k := range backend.Key(n) {
			a, b := fixture.Pair(t)
			b.Write("x")
			ends = append(ends, a)
			require.NoError(t, q.Add(a.Handle(), k+1, backend.Readable|backend.Writable|backend.OneShot))
		}
		seen := make(map[backend.Key]int)
		for range n {
			for _, ev := range wait(t, q, 2, 0) {
				seen[ev.Key]++
			}
		}
		require.Len(t, seen, n)
		for k, times := range seen {
			require.Equal(t, 1, times, "key %d", k)
		}
		for k, e := range ends {
			require.ErrorIs(t, q.Add(e.Handle(), 100, backend.Readable), unix.EEXIST, "it is still registered")
			require.NoError(t, q.Modify(e.Handle(), backend.Key(k+1), backend.Readable))
		}
		require.Len(t, wait(t, q, 64, 0), n)
	})
}

// An event that was received before a change does not count for the new registration.
// contract: R5
func TestWait_EventOlderThanRegistration(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			k := &between{Kernel: kernel()}
			q := NewOn(k)
			require.NoError(t, q.Open())
			defer q.Close()
			a, b := fixture.Pair(t)
			b.Write("x")
			require.NoError(t, q.Add(a.Handle(), 1, backend.Readable|backend.Edge))
			k.received = func() { // before Wait handles them
				a.Drain()
				require.NoError(t, q.Modify(a.Handle(), 2, backend.Readable|backend.Edge))
			}
			require.Empty(t, wait(t, q, 4, 0))
			k.received = nil
			require.Empty(t, wait(t, q, 4, 0))
			b.Write("y")
			require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, wait(t, q, 4, 0))
		})
	}
}

// between calls received between the return of the kernel and that of Wait.
type between struct {
	kq.Kernel
	received func()
}

func (k *between) Kevent(fd int, changes, events []kq.Event, timeout time.Duration) (int, error) {
	n, err := k.Kernel.Kevent(fd, changes, events, timeout)
	if len(events) > 0 && k.received != nil {
		k.received()
	}
	return n, err
}

// An event that was received before its registration ended is dropped.
func TestWait_DeletedAfterReceipt(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		a, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, q.Add(a.Handle(), 1, backend.Readable))
		k.after = func(events []kq.Event) error {
			if len(events) > 0 {
				k.after = nil
				require.NoError(t, q.Delete(a.Handle()))
			}
			return nil
		}
		require.Empty(t, wait(t, q, 4, 0))
	})
}

// A change between two calls to the kernel in one Wait: the events of the second call
// have the new key.
func TestWait_ModifiedBetweenCalls(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		a, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, q.Add(a.Handle(), 1, backend.Readable|backend.Writable|backend.Edge))
		looks := 0
		k.before = func(_, events []kq.Event) error {
			if len(events) == 0 {
				return nil
			}
			if looks++; looks == 2 {
				require.NoError(t, q.Modify(a.Handle(), 2, backend.Readable|backend.Writable|backend.Edge))
			}
			return nil
		}
		seen := make(map[backend.Key]backend.Readiness)
		for range 3 {
			for _, ev := range wait(t, q, 2, 0) {
				seen[ev.Key] |= ev.Ready
			}
		}
		require.Equal(t, backend.ReadyReadable|backend.ReadyWritable, seen[2], "an event of the old key is lost")
	})
}

// An error that follows events is not returned, because the next Wait meets it again and
// the events would be lost.
func TestWait_ErrorAfterEvents(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		a, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, q.Add(a.Handle(), 1, backend.Readable|backend.Writable))
		looks := 0
		k.before = func(_, events []kq.Event) error {
			if len(events) > 0 {
				if looks++; looks == 2 {
					return unix.EINTR
				}
			}
			return nil
		}
		n, err := q.Wait(make([]backend.Event, 2), 0)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}

// A timeout longer than the kernel takes is cut; the core waits again.
// contract: P3
func TestWait_LongTimeouts(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		for _, timeout := range []time.Duration{maxTimeout + 1, 100_000_001 * time.Second, 1<<63 - 1} {
			require.NoError(t, q.Wake())
			require.Empty(t, wait(t, q, 1, timeout), "timeout %v", timeout)
		}
		require.LessOrEqual(t, maxTimeout, 100_000_000*time.Second)
	})
}
