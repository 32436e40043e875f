//go:build linux

package iouring

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/uring"
)

// Requests that end in other ways than by their event.

// When the kernel had no memory for completions, nobody knows which requests have
// ended. All are made again, and nothing is lost.
// contract: E4
func TestRequest_CompletionsDropped(t *testing.T) {
	eachKind(t, "E4: registrations stay, and their events", func(t *testing.T, u *Uring) {
		var heres, theres []*fixture.End
		for i, mode := range modes {
			here, there := fixture.Pair(t)
			heres, theres = append(heres, here), append(theres, there)
			require.NoError(t, u.Add(here.Handle(), backend.Key(i+1), backend.Readable|mode))
		}
		require.Empty(t, ready(t, u))
		for _, there := range theres {
			there.Write("x")
		}
		require.NoError(t, u.Wake())
		u.mu.Lock()
		_, errno := u.ring.Finish()
		require.Zero(t, errno)
		require.Greater(t, u.ring.Tail()-u.ring.Head(), uint32(3))
		for i := u.ring.Head(); i != u.ring.Tail(); i++ { // lost
			u.ring.At(i).UserData = cancelMark
		}
		require.NoError(t, u.refused(unix.EBADR))
		require.True(t, u.wakeArms, "the eventfd's, too")
		u.mu.Unlock()
		seen := make(map[backend.Key]bool)
		for len(seen) < len(heres) {
			for _, ev := range some(t, u, make([]backend.Event, 4)) {
				seen[ev.Key] = true
				heres[ev.Key-1].Drain()
			}
		}
		require.Empty(t, ready(t, u))
		require.NoError(t, u.Wake())
		n, err := u.Wait(make([]backend.Event, 4), -1)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

// A multishot request that ends again and again in one Wait is given up, and not
// one that lasted for a while.
func TestRequest_EndsAgainAndAgain(t *testing.T) {
	eachKind(t, "M2: one event, then silence", func(t *testing.T, u *Uring) {
		a, _ := fixture.Pair(t)
		require.NoError(t, u.Add(a.Handle(), 1, backend.Readable|backend.Edge))
		require.Empty(t, ready(t, u))
		rec := u.records.Get(uintptr(a.FD))
		u.mu.Lock()
		defer u.mu.Unlock()
		u.cancels = append(u.cancels, rec.userData(uint32(a.FD)))
		ended := &uring.CQE{Result: unix.POLLIN}
		for range 3 * manyEnds {
			rec.state, ended.UserData = armed, rec.userData(uint32(a.FD))
			rec.round = u.round - 1
			u.take(ended)
			require.Equal(t, toArm, rec.state)
		}
		for range manyEnds {
			rec.state, rec.round = armed, u.round
			u.take(ended)
		}
		require.Equal(t, silent, rec.state)
	})
}

// A level-triggered file that has nothing to wait for has no request while it is
// reported, and gets one when it is not ready any more.
func TestRequest_ComesBackAfterLevel(t *testing.T) {
	eachKind(t, "M1", func(t *testing.T, u *Uring) {
		a, b := fixture.Pair(t)
		require.NoError(t, u.Add(a.Handle(), 1, backend.Readable))
		b.Write("x")
		require.Len(t, ready(t, u), 1)
		rec := u.records.Get(uintptr(a.FD))
		u.mu.Lock()
		u.cancels = append(u.cancels, rec.userData(uint32(a.FD)))
		rec.state = silent
		u.mu.Unlock()
		require.Len(t, ready(t, u), 1, "asked about")
		a.Drain()
		require.Empty(t, ready(t, u))
		b.Write("x")
		require.Len(t, some(t, u, make([]backend.Event, 4)), 1)
	})
}

// A file that has nothing to wait for, and nothing ready: the kernel refuses the
// request. It stays registered, and will not be reported, as on epoll.
func TestRequest_Refused(t *testing.T) {
	eachKind(t, "R8, M1", func(t *testing.T, u *Uring) {
		a, b := fixture.Pair(t)
		require.NoError(t, u.Add(a.Handle(), 1, backend.Readable))
		require.Empty(t, ready(t, u))
		fd := uint32(a.FD)
		u.mu.Lock()
		rec := u.records.Get(uintptr(fd))
		u.cancels = append(u.cancels, rec.userData(fd))
		u.failed(fd, rec, unix.EINVAL)
		u.mu.Unlock()
		b.Write("x")
		require.Empty(t, ready(t, u))
		require.ErrorIs(t, u.Add(a.Handle(), 2, backend.Readable), unix.EEXIST)
		require.NoError(t, u.Modify(a.Handle(), 3, backend.Readable))
		require.Len(t, some(t, u, make([]backend.Event, 4)), 1)
	})
}

// While the peer has half-closed, a multishot request replaces the single one of a
// one-shot registration. It must not be left in the kernel.
func TestRequest_StandInIsCancelled(t *testing.T) {
	for _, mode := range []backend.Interest{0, backend.OneShot} {
		t.Run(mode.String(), func(t *testing.T) {
			eachKind(t, "E4: nothing left behind", func(t *testing.T, u *Uring) {
				a, b := fixture.Pair(t)
				require.NoError(t, u.Add(a.Handle(), 1, backend.Writable|mode))
				for range 20 {
					a.Fill()
					require.Empty(t, ready(t, u))
					b.ShutdownWrite()
					require.Empty(t, ready(t, u))
					b.Drain()
					require.Len(t, some(t, u, make([]backend.Event, 4)), 1)
					if mode == backend.OneShot {
						a.Fill()
						require.NoError(t, u.Modify(a.Handle(), 1, backend.Writable|mode))
					}
				}
				require.NoError(t, u.Delete(a.Handle()))
				require.Empty(t, ready(t, u))
				require.LessOrEqual(t, requests(t, u), 1, "the eventfd's")
			})
		})
	}
}

// Delete ends its registration and no other: not that of a duplicate of the descriptor, nor
// that of the file that has the number next, whether or not the kernel has the requests yet.
// contract: R6
func TestDelete_OnlyItsRegistration(t *testing.T) {
	eachMode(t, "R6, R7", func(t *testing.T, u *Uring, mode backend.Interest) {
		for _, waited := range []bool{false, true} {
			settle := func() {
				if waited {
					require.Empty(t, ready(t, u))
				}
			}
			only := func(want backend.Key, reader, writer *fixture.End) {
				t.Helper()
				writer.Write("x")
				events := ready(t, u)
				require.Len(t, events, 1)
				require.Equal(t, want, events[0].Key)
				reader.Drain()
				if mode == backend.OneShot {
					require.NoError(t, u.Modify(reader.Handle(), want, backend.Readable|mode))
				}
				settle()
			}
			in := backend.Readable | mode
			a, b := fixture.Pair(t)
			duplicate := a.Dup()
			require.NoError(t, u.Add(a.Handle(), 1, in))
			require.NoError(t, u.Add(duplicate.Handle(), 2, in))
			settle()
			require.NoError(t, u.Delete(a.Handle()))
			only(2, duplicate, b)

			// Its number goes to another file, and that one's to a third. The second is closed
			// without Delete.
			number := a.FD
			a.Close()
			c, d := fixture.PairAt(t, number)
			require.NoError(t, u.Add(c.Handle(), 3, in))
			settle()
			only(3, c, d)
			c.Close()
			e, f := fixture.PairAt(t, number)
			require.NoError(t, u.Add(e.Handle(), 4, in))
			settle()
			only(4, e, f)
			only(2, duplicate, b)

			// The number is taken by a duplicate of what another number is registered for.
			e.Close()
			g := duplicate.Dup().MoveTo(number)
			require.ErrorIs(t, u.Delete(g.Handle()), unix.ENOENT)
			only(2, duplicate, b)
			require.NoError(t, u.Delete(duplicate.Handle()))
			require.ErrorIs(t, u.Delete(duplicate.Handle()), unix.ENOENT)
			b.Write("x")
			require.Empty(t, ready(t, u))
			require.LessOrEqual(t, requests(t, u), 1, "the eventfd's")
		}
	})
}
