//go:build unix || windows

package backendtest

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// registrationCases test Add, Modify and Delete.
var registrationCases = []wantedCase{
	// contract: R2
	{
		name: "a source that is ready already",
		rule: "R2: registering a source that is already ready gives an event, in every mode",
		run: func(t *testing.T, q *queue) {
			for i, mode := range modesOf(q) {
				a, b := fixture.Pair(t)
				b.Write("x")
				k := backend.Key(i + 1)
				q.add(a, k, backend.Readable|mode)
				require.Equal(t, backend.ReadyReadable, q.expect(k), "mode %v", mode)
				q.remove(a)
			}
		},
	},
	{
		name: "keys come back whole",
		rule: "a backend returns all 64 bits of a Key unchanged",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			b.Write("x")
			for _, k := range []backend.Key{1, 1 << 31, 1 << 32, 1 << 63, 0x0123456789abcdef, 0xfedcba9876543211, ^backend.Key(0)} {
				q.add(a, k, backend.Readable)
				q.expect(k)
				q.remove(a)
			}
		},
	},
	// contract: R3
	{
		name: "register twice",
		rule: "R3: registering a registered source is fs.ErrExist and leaves the first registration unchanged",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable)
			for range 3 {
				err := q.Add(a.Handle(), 2, backend.Writable)
				require.ErrorIs(t, err, fs.ErrExist)
			}
			q.silent("nothing to read, and Writable was refused")
			b.Write("x")
			require.Equal(t, backend.ReadyReadable, q.expect(1))
		},
	},
	// contract: R3
	{
		name: "a refused second registration loses no event",
		rule: "R3: a refused second registration loses no event of the first",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable|backend.Edge)
			b.Write("x") // the edge comes before the refusal
			require.ErrorIs(t, q.Add(a.Handle(), 2, backend.Readable|backend.Edge), fs.ErrExist)
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			a.Drain()
			require.ErrorIs(t, q.Add(a.Handle(), 2, backend.Readable), fs.ErrExist)
			b.Write("y") // this edge comes after it
			require.Equal(t, backend.ReadyReadable, q.expect(1))
		},
		needs: backend.Edge,
	},
	// contract: R4
	{
		name: "change an unregistered source",
		rule: "R4: Modify or Delete of an unregistered source is fs.ErrNotExist",
		run: func(t *testing.T, q *queue) {
			a, _ := fixture.Pair(t)
			require.ErrorIs(t, q.Modify(a.Handle(), 1, backend.Readable), fs.ErrNotExist)
			require.ErrorIs(t, q.Delete(a.Handle()), fs.ErrNotExist)
			q.add(a, 1, backend.Writable)
			q.remove(a)
			require.ErrorIs(t, q.Modify(a.Handle(), 1, backend.Writable), fs.ErrNotExist)
			require.ErrorIs(t, q.Delete(a.Handle()), fs.ErrNotExist)
			q.silent("nothing is registered")
		},
	},
	// contract: R3
	{
		name: "deregister then register again",
		rule: "R3: after Delete, the source can be registered again",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			b.Write("x")
			for k := backend.Key(1); k <= 20; k++ {
				for _, mode := range modesOf(q) {
					q.add(a, k, backend.Readable|mode)
					q.expect(k)
					q.remove(a)
				}
			}
			q.silent("nothing is registered")
		},
	},
	// contract: R5
	{
		name: "modify replaces everything",
		rule: "R5: Reregister replaces the token, the interest and the mode",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			b.Write("x")
			q.add(a, 1, backend.Readable)
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			q.modify(a, 2, backend.Writable)
			require.Equal(t, backend.ReadyWritable, q.expect(2))
			q.modify(a, 3, backend.Readable|backend.Writable)
			require.Equal(t, backend.ReadyReadable|backend.ReadyWritable, q.expectBits(3, backend.ReadyReadable|backend.ReadyWritable))
			q.modify(a, 4, backend.Readable|backend.OneShot)
			require.Equal(t, backend.ReadyReadable, q.expect(4))
			q.silent("the mode is one-shot now")
			q.modify(a, 5, backend.Readable)
			for range 3 {
				require.Equal(t, backend.ReadyReadable, q.expect(5), "the mode is level again")
			}
		},
		needs: backend.OneShot,
	},
	// contract: R5
	{
		name: "modify rearms",
		rule: "R5: Reregister rearms: if the source is ready now, an event follows",
		run: func(t *testing.T, q *queue) {
			for _, mode := range modesOf(q) {
				a, b := fixture.Pair(t)
				b.Write("x")
				q.add(a, 1, backend.Readable|mode)
				q.expect(1)
				for k := backend.Key(2); k < 6; k++ {
					q.modify(a, k, backend.Readable|mode)
					require.Equal(t, backend.ReadyReadable, q.expect(k), "mode %v", mode)
				}
				q.remove(a)
			}
		},
	},
	// contract: R5, M9
	{
		name: "modify with nothing ready stays silent",
		rule: "R5, M9: rearming does not by itself give an event",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable)
			for _, mode := range modesOf(q) {
				q.modify(a, 2, backend.Readable|mode)
				q.silent("nothing to read")
			}
			b.Write("x")
			require.Equal(t, backend.ReadyReadable, q.expect(2))
		},
	},
	// contract: R13
	{
		name: "a failed modify changes nothing",
		rule: "R13: a failed call changes nothing",
		run: func(t *testing.T, q *queue) {
			a, _ := fixture.Pair(t)
			other, _ := fixture.Pair(t)
			q.add(a, 1, backend.Writable)
			require.ErrorIs(t, q.Modify(other.Handle(), 2, backend.Writable), fs.ErrNotExist)
			require.ErrorIs(t, q.Add(a.Handle(), 3, backend.Readable), fs.ErrExist)
			require.Equal(t, backend.ReadyWritable, q.expect(1))
			q.add(other, 4, backend.Readable)
			q.remove(other)
			q.remove(a)
		},
	},
	// contract: R6
	{
		name: "no event after deregister",
		rule: "R6: after Deregister has returned, no event of the registration is delivered",
		run: func(t *testing.T, q *queue) {
			for _, mode := range modesOf(q) {
				a, b := fixture.Pair(t)
				q.add(a, 1, backend.Readable|mode)
				b.Write("x") // the event is in the queue
				q.remove(a)
				q.silent("deregistered")
				b.Write("y")
				q.silent("deregistered")
			}
		},
	},
	// contract: R5
	{
		name: "no event of the old key after modify",
		rule: "R5: after Reregister, no event of the old registration is delivered",
		run: func(t *testing.T, q *queue) {
			for _, mode := range modesOf(q) {
				a, b := fixture.Pair(t)
				q.add(a, 1, backend.Readable|mode)
				b.Write("x") // the event is in the queue
				q.modify(a, 2, backend.Readable|mode)
				q.expect(2)
				q.remove(a)
			}
		},
	},
	// contract: R6
	{
		name: "the number is reused after deregister and close",
		rule: "R6: after Deregister, no old event is delivered even if the descriptor number was closed and reused",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable)
			b.Write("x")
			q.remove(a)
			number := a.FD
			a.Close()
			c, d := fixture.PairAt(t, number)
			q.add(c, 2, backend.Readable)
			q.silent("the new owner has nothing to read")
			d.Write("y")
			require.Equal(t, backend.ReadyReadable, q.expect(2))
		},
	},
	// contract: R7
	{
		name: "closed without deregister",
		rule: "R7: after a descriptor was closed without Deregister, the new owner of its number can be registered, and only the new key is delivered",
		run: func(t *testing.T, q *queue) {
			for k := backend.Key(1); k <= 50; k++ {
				a, b := fixture.Pair(t)
				number := a.FD
				q.add(a, 2*k, backend.Readable)
				b.Write("x")
				a.Close()
				c, d := fixture.PairAt(t, number)
				q.add(c, 2*k+1, backend.Readable)
				d.Write("y")
				require.Equal(t, backend.ReadyReadable, q.expect(2*k+1))
				q.remove(c)
				for _, e := range []*fixture.End{b, c, d} {
					e.Close()
				}
			}
		},
	},
	// contract: R7
	{
		name: "closed without deregister does not spin",
		rule: "R7: a descriptor that was closed while registered does not end one wait after the other",
		run: func(t *testing.T, q *queue) {
			for _, mode := range modesOf(q) {
				var ends []*fixture.End
				for i, of := range fixture.Kinds {
					r, w := of(t)
					q.add(r, backend.Key(i+1), backend.Readable|mode)
					ends = append(ends, r, w)
				}
				q.silent("nothing written")
				for i := 0; i < len(ends); i += 2 {
					ends[i+1].Write("x")
					ends[i].Close()
				}
				// What was written before may be reported, once for each: io_uring holds
				// files open, and Wine reports late.
				for i := 0; i < len(ends)/2 && len(q.wait(4, 4*quiet)) > 0; i++ {
				}
				before := q.rounds
				require.Empty(t, q.wait(4, 4*quiet), "mode %v", mode)
				require.LessOrEqual(t, q.rounds-before, 10, "mode %v", mode)
			}
		},
	},
	// contract: R7
	{
		name: "a closed number that others use",
		rule: "R7: a descriptor closed while registered gives no event, whatever reuses its number",
		run: func(t *testing.T, q *queue) {
			for _, mode := range modesOf(q) {
				for _, waited := range []bool{false, true} {
					for _, of := range fixture.Kinds {
						a, _ := of(t)
						number := a.FD
						q.add(a, 1, backend.Readable|mode)
						if waited {
							q.silent("nothing written")
						}
						c, d := of(t)
						a.Close()
						c = c.MoveTo(number)
						d.Write("y")
						q.silent("the new owner is not registered")
						c.Close()
					}
					r, _ := fixture.Kinds[0](t)
					number := r.FD
					q.add(r, 1, backend.Readable|mode)
					f := fixture.RegularFile(t)
					r.Close()
					f = f.MoveTo(number)
					q.silent("the new owner is a file, which is always ready")
					f.Close()
				}
			}
		},
	},
	// contract: R4, R7
	{
		name: "change a closed descriptor",
		rule: "R4, R7: a closed descriptor is no longer registered: changing it is fs.ErrNotExist or EBADF and affects nothing else",
		run: func(t *testing.T, q *queue) {
			a, _ := fixture.Pair(t)
			q.add(a, 1, backend.Readable)
			number := a.Handle()
			a.Close()
			gone := func(err error) {
				t.Helper()
				require.Error(t, err)
				require.True(t, errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EBADF), "%v", err)
			}
			gone(q.Modify(number, 2, backend.Readable))
			gone(q.Delete(number))
			q.silent("nothing is registered")
		},
	},
	// contract: R4
	{
		name: "the new owner of a closed number is not registered",
		rule: "R4: a source that the kernel does not watch is fs.ErrNotExist, even if its number was registered before",
		run: func(t *testing.T, q *queue) {
			a, _ := fixture.Pair(t)
			q.add(a, 1, backend.Readable)
			number := a.FD
			a.Close()
			c, d := fixture.PairAt(t, number)
			d.Write("y")
			require.ErrorIs(t, q.Modify(c.Handle(), 2, backend.Readable), fs.ErrNotExist)
			require.ErrorIs(t, q.Delete(c.Handle()), fs.ErrNotExist)
			q.silent("nothing is registered")
		},
	},
	// contract: R7
	{
		name: "a number is reused by another source of its kind",
		rule: reuseRule,
		run: func(t *testing.T, q *queue) {
			for _, waited := range []bool{false, true} {
				last, _ := fixture.Kinds[0](t)
				for _, of := range slices.Concat(fixture.Kinds, fixture.Kinds) {
					for range 2 { // first another kind, then the same kind
						r, w := of(t)
						last = takeOver(t, q, waited, last, r, w.Write)
					}
				}
			}
		},
	},
	// contract: R7
	{
		name: "a number is reused by the other end of its pipe",
		rule: reuseRule,
		run: func(t *testing.T, q *queue) {
			for _, waited := range []bool{false, true} {
				r, w := fixture.Pipe(t)
				r.Dup() // keeps a reader of the pipe open
				q.add(r, 1, backend.Readable)
				if waited {
					q.silent("empty")
				}
				number := r.FD
				r.Close()
				w = w.MoveTo(number)
				require.ErrorIs(t, q.Modify(w.Handle(), 2, backend.Writable), fs.ErrNotExist)
				require.ErrorIs(t, q.Delete(w.Handle()), fs.ErrNotExist)
				q.add(w, 3, backend.Writable)
				require.Equal(t, backend.ReadyWritable, q.expect(3))
				q.remove(w)
			}
		},
	},
	// contract: R7
	{
		name: "an eventfd's number goes to another eventfd",
		rule: reuseRule,
		run: func(t *testing.T, q *queue) {
			for _, waited := range []bool{false, true} {
				first, second := fixture.Eventfd(t), fixture.Eventfd(t)
				takeOver(t, q, waited, first, second, nil)
			}
		},
	},
	// contract: R12
	{
		name: "two descriptors of one description",
		rule: "R12: duplicates of a descriptor can be registered with separate tokens",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			a2 := a.Dup()
			q.add(a, 1, backend.Readable)
			q.add(a2, 2, backend.Writable)
			require.Equal(t, backend.ReadyWritable, q.expect(2))
			q.remove(a2)
			b.Write("x")
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			q.remove(a)
		},
	},
	// contract: R14
	{
		name: "deregister lets close take effect at once",
		rule: "R14: after Deregister, closing the source takes effect at once: the peer sees it without another wait",
		run: func(t *testing.T, q *queue) {
			letsClose(t, q, func(a, _ *fixture.End) {
				var err error
				q.inLoop(func() { err = q.Delete(a.Handle()) })
				require.NoError(t, err)
			})
		},
	},
	// contract: R14
	{
		name: "deregister from another goroutine lets close take effect",
		rule: "R14: this also holds for a Deregister from another goroutine, except that a queue of one thread may need another wait",
		run: func(t *testing.T, q *queue) {
			letsClose(t, q, func(a, b *fixture.End) {
				q.remove(a)
				if q.Capabilities().OneThread {
					q.silent("deregistered")
				}
			})
		},
	},
	// contract: R14
	{
		name: "deregister during a wait lets close take effect at once",
		rule: "R14: this also holds during a wait, for every queue",
		run: func(t *testing.T, q *queue) {
			var wait <-chan []backend.Event
			letsClose(t, q, func(a, b *fixture.End) {
				other, wakes := fixture.Pair(t)
				q.add(other, 2, backend.Readable)
				wait = q.start(4, forever)
				q.remove(a)
				a.Close()
				b.AwaitReadable() // during the wait
				wakes.Write("x")
				require.Len(t, <-wait, 1)
				q.remove(other)
			})
		},
	},
	// contract: R9
	{
		name: "capabilities are valid",
		rule: "R9: Capabilities has at least Readable and Writable, no unknown bit, and a positive Resolution",
		run: func(t *testing.T, q *queue) {
			caps := q.Capabilities()
			require.True(t, caps.Interests.Has(backend.Readable|backend.Writable), "%v", caps.Interests)
			require.Zero(t, caps.Interests.Unknown())
			require.Positive(t, caps.Resolution)
			require.NotEmpty(t, q.Name())
			require.Equal(t, q.Name(), q.Name())
		},
	},
}

const reuseRule = "R3, R4, R7: a registration is exactly that of one open file, even among files that the system gives no identity"

// takeOver registers first, closes it, gives its number to second and registers
// that. write makes second readable; if it is nil, second does so itself, as an
// eventfd can.
func takeOver(t *testing.T, q *queue, waited bool, first, second *fixture.End, write func(string)) *fixture.End {
	t.Helper()
	q.add(first, 1, backend.Readable)
	if waited {
		q.silent("nothing written")
	}
	number := first.FD
	first.Close()
	second = second.MoveTo(number)
	require.ErrorIs(t, q.Modify(second.Handle(), 2, backend.Readable), fs.ErrNotExist)
	require.ErrorIs(t, q.Delete(second.Handle()), fs.ErrNotExist)
	q.add(second, 3, backend.Readable)
	require.ErrorIs(t, q.Add(second.Handle(), 4, backend.Readable), fs.ErrExist)
	q.silent("nothing written")
	if write == nil {
		write = second.Write
	}
	write("\x01\x00\x00\x00\x00\x00\x00\x00")
	require.Equal(t, backend.ReadyReadable, q.expect(3))
	q.modify(second, 5, backend.Readable)
	require.Equal(t, backend.ReadyReadable, q.expect(5))
	q.remove(second)
	require.ErrorIs(t, q.Delete(second.Handle()), fs.ErrNotExist)
	second.Drain()
	return second
}

// letsClose registers one end of a connection, waits once, calls remove, closes the
// end, and requires that the other end sees it.
func letsClose(t *testing.T, q *queue, remove func(a, b *fixture.End)) {
	for _, mode := range modesOf(q) {
		a, b := fixture.TCPPair(t)
		q.add(a, 1, backend.Readable|mode)
		require.Empty(t, q.wait(4, 0))
		remove(a, b)
		a.Close()
		b.AwaitReadable()
		_, ended := b.Drain()
		require.True(t, ended, "the peer sees the end, mode %v", mode)
	}
}

// modesOf returns the modes that the queue supports, level first.
func modesOf(q *queue) []backend.Interest {
	modes := []backend.Interest{0}
	for _, m := range []backend.Interest{backend.Edge, backend.OneShot, backend.Edge | backend.OneShot} {
		if q.Capabilities().Interests.Has(m) {
			modes = append(modes, m)
		}
	}
	return modes
}

// edgeOr returns Edge if the queue supports it, and other if not.
func edgeOr(q *queue, other backend.Interest) backend.Interest {
	if q.Capabilities().Interests.Has(backend.Edge) {
		return backend.Edge
	}
	return other
}
