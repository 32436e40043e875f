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

// Kernels refuse to watch a pipe that is broken already. The contract asks for an event,
// in every mode, and in turn with others.
// contract: M6
func TestBrokenPipe_Registered(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		closed := backend.ReadyWritable | backend.ReadyWriteClosed
		r, w := fixture.Pipe(t)
		r.Close()
		a, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, q.Add(a.Handle(), 1, backend.Readable))
		require.NoError(t, q.Add(w.Handle(), 2, backend.Writable))
		require.ErrorIs(t, q.Add(w.Handle(), 3, backend.Writable), unix.EEXIST)
		seen := make(map[backend.Key]int)
		for range 8 { // with room for one, they take turns
			for _, ev := range wait(t, q, 1, -1) {
				seen[ev.Key]++
			}
		}
		require.Equal(t, map[backend.Key]int{1: 4, 2: 4}, seen)
		for k, mode := range []backend.Interest{backend.OneShot, backend.Edge} {
			key := backend.Key(10 + k)
			require.NoError(t, q.Modify(w.Handle(), key, backend.Writable|mode))
			var got []backend.Event
			for range 4 {
				for _, ev := range wait(t, q, 4, 0) {
					if ev.Key != 1 {
						ev.Ready |= closed // a kernel that does watch it adds Error
						got = append(got, ev)
					}
				}
			}
			require.Len(t, got, 1, "mode %v", mode)
			require.Equal(t, key, got[0].Key)
		}
		number := w.FD
		w.Close()
		c, d := fixture.PairAt(t, number)
		require.ErrorIs(t, q.Modify(c.Handle(), 20, backend.Readable), unix.ENOENT)
		require.NoError(t, q.Add(c.Handle(), 21, backend.Readable))
		d.Write("x")
		require.Len(t, wait(t, q, 4, 0), 2)

		r, w = fixture.Pipe(t)
		r.Close()
		require.NoError(t, q.Add(w.Handle(), 30, backend.Writable))
		require.NoError(t, q.Delete(w.Handle()))
		require.ErrorIs(t, q.Delete(w.Handle()), unix.ENOENT)
		for _, ev := range wait(t, q, 4, 0) {
			require.NotEqual(t, backend.Key(30), ev.Key)
		}
		require.NoError(t, q.Add(w.Handle(), 31, backend.Writable))
		w.Close() // before it was reported
		for range 3 {
			for _, ev := range wait(t, q, 4, 0) {
				require.NotEqual(t, backend.Key(31), ev.Key)
			}
		}
	})
}

// finalizing is a kernel that drops the knote of a pipe with the event that reports that
// it broke, as real ones do.
type finalizing struct{ kq.Kernel }

func (k *finalizing) Kevent(fd int, changes, events []kq.Event, timeout time.Duration) (int, error) {
	n, err := k.Kernel.Kevent(fd, changes, events, timeout)
	for i := range events[:max(n, 0)] {
		ev := &events[i]
		var st unix.Stat_t
		if ev.Filter == k.System().Write && ev.Flags&kq.EOF != 0 &&
			unix.Fstat(int(ev.Ident), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
			ev.Flags |= kq.OneShot
			_, _ = k.Kernel.Kevent(fd, []kq.Event{{Ident: ev.Ident, Filter: ev.Filter, Flags: kq.Delete}}, nil, 0)
		}
	}
	return n, err
}

// A pipe that breaks while it is registered stays registered, in every mode.
// contract: M6
func TestBrokenPipe_BreaksLater(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			q := NewOn(&finalizing{kernel()})
			require.NoError(t, q.Open())
			defer q.Close()
			for _, mode := range []backend.Interest{0, backend.OneShot, backend.Edge} {
				r, w := fixture.Pipe(t)
				w.Fill()
				require.NoError(t, q.Add(w.Handle(), 1, backend.Writable|mode))
				require.Empty(t, wait(t, q, 4, 0), "full")
				r.Close()
				for i := range 3 {
					events := wait(t, q, 4, 0)
					if mode != 0 && i > 0 {
						require.Empty(t, events)
						continue
					}
					require.Len(t, events, 1, "mode %v, wait %d", mode, i)
					require.True(t, events[0].Ready.Has(backend.ReadyWritable|backend.ReadyWriteClosed), "%v", events[0].Ready)
				}
				require.ErrorIs(t, q.Add(w.Handle(), 2, backend.Writable), unix.EEXIST)
				require.NoError(t, q.Modify(w.Handle(), 3, backend.Writable|mode))
				events := wait(t, q, 4, 0)
				require.Len(t, events, 1)
				require.Equal(t, backend.Key(3), events[0].Key)
				require.NoError(t, q.Delete(w.Handle()))
				require.ErrorIs(t, q.Delete(w.Handle()), unix.ENOENT)
				require.Empty(t, wait(t, q, 4, 0))
			}
		})
	}
}

// The registration of a broken pipe ends a Wait in progress.
func TestBrokenPipe_EndsWait(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		r, w := fixture.Pipe(t)
		r.Close()
		got := make(chan backend.Key)
		go func() {
			dst := make([]backend.Event, 4)
			for {
				n, err := q.Wait(dst, -1)
				if err != nil && err != unix.EINTR || n > 0 {
					got <- dst[0].Key
					return
				}
			}
		}()
		require.NoError(t, q.Add(w.Handle(), 7, backend.Writable))
		require.Equal(t, backend.Key(7), <-got)
	})
}

// The probe for a broken pipe does not enable its knote.
func TestBrokenPipe_ProbeKeepsItDisabled(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		r, w := fixture.Pipe(t)
		r.Close()
		k.before = func(changes, _ []kq.Event) error {
			for _, c := range changes {
				if c.Filter == q.sys.Read && c.Ident == uint64(w.FD) {
					require.Zero(t, c.Flags&kq.Enable, "it would report the end of reading")
				}
			}
			return nil
		}
		require.NoError(t, q.Add(w.Handle(), 1, backend.Writable))
		require.ErrorIs(t, q.Add(w.Handle(), 2, backend.Writable), unix.EEXIST)
		require.Len(t, wait(t, q, 4, 0), 1)
	})
}

// A broken pipe ends every Wait, also if nothing else is ready.
func TestBrokenPipe_EndsEveryWait(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		r, w := fixture.Pipe(t)
		r.Close()
		require.NoError(t, q.Add(w.Handle(), 1, backend.Writable))
		wait(t, q, 4, 0) // the wake
		for range 4 {
			returns(t, func() { require.Len(t, wait(t, q, 4, -1), 1) })
		}
	})
}

// The next owner of the descriptor number has none of its events.
func TestBrokenPipe_NumberReused(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		r, w := fixture.Pipe(t)
		r.Close()
		require.NoError(t, q.Add(w.Handle(), 1, backend.Writable))
		number := w.FD
		w.Close()
		c, d := fixture.PairAt(t, number)
		require.NoError(t, q.Add(c.Handle(), 2, backend.Readable))
		for range 2 {
			require.Empty(t, wait(t, q, 4, 0))
		}
		require.ErrorIs(t, q.Add(c.Handle(), 3, backend.Readable), unix.EEXIST)
		d.Write("x")
		require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, wait(t, q, 4, 0))
	})
}

// The registration of a broken pipe wakes a Wait that sleeps in the kernel.
func TestBrokenPipe_WakesWaiter(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		r, w := fixture.Pipe(t)
		r.Close()
		returns(t, func() {
			time.AfterFunc(50*time.Millisecond, func() { _ = q.Add(w.Handle(), 7, backend.Writable) })
			for len(wait(t, q, 4, -1)) == 0 {
			}
		})
	})
}

// A kernel that refuses every knote: Add returns an error, and nothing stays registered.
func TestBrokenPipe_PlaceholderRefused(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		r, w := fixture.Pipe(t)
		r.Close()
		k.before = func(changes, _ []kq.Event) error {
			if len(changes) > 0 && changes[0].Flags&kq.Disable != 0 {
				return unix.ENOMEM
			}
			return nil
		}
		require.Error(t, q.Add(w.Handle(), 1, backend.Writable))
		k.before = nil
		require.ErrorIs(t, q.Delete(w.Handle()), unix.ENOENT)
		require.Empty(t, wait(t, q, 4, 0))
	})
}

// A named pipe with data for its reader is not an event for its writer.
func TestBrokenPipe_DataOfFIFO(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		r, w := fixture.FIFO(t)
		w.Fill()
		if err := q.Add(w.Handle(), 1, backend.Writable); err != nil {
			require.ErrorIs(t, err, backend.ErrNotPollable)
			return
		}
		require.Empty(t, wait(t, q, 4, 0))
		r.Drain()
		require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyWritable}}, wait(t, q, 4, fixture.Soon))
	})
}
