//go:build unix || windows

package backendtest

import (
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// sourceCases test what kinds of files can be watched.
var sourceCases = []wantedCase{
	// contract: M1, M2
	{
		name: "a pipe",
		rule: "M1, M2: pipes are sources",
		run: func(t *testing.T, q *queue) {
			r, w := fixture.Pipe(t)
			q.add(r, 1, backend.Readable)
			q.silent("empty")
			w.Write("x")
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			require.Equal(t, "x", r.Read(4))
			q.remove(r)
			q.add(w, 2, backend.Writable)
			require.Equal(t, backend.ReadyWritable, q.expect(2))
			w.Fill()
			q.silent("full")
			r.Drain()
			require.Equal(t, backend.ReadyWritable, q.expect(2))
		},
	},
	// contract: M7
	{
		name: "a pipe whose writer is gone",
		rule: "M7: a pipe without a writer is Readable|ReadClosed",
		run: func(t *testing.T, q *queue) {
			r, w := fixture.Pipe(t)
			w.Write("last")
			q.add(r, 1, backend.Readable)
			w.Close()
			q.expectBits(1, readClosed)
			require.Equal(t, "last", r.Read(16))
			require.True(t, q.expect(1).Has(readClosed))
			_, ended := r.Drain()
			require.True(t, ended)
		},
	},
	// contract: M6
	{
		name: "a pipe whose reader is gone",
		rule: "M6: a pipe without a reader is Writable with Error or WriteClosed, and the write returns EPIPE",
		run: func(t *testing.T, q *queue) {
			r, w := fixture.Pipe(t)
			w.Fill()
			q.add(w, 1, backend.Writable)
			q.silent("full")
			r.Close()
			bits := q.expect(1)
			require.True(t, bits.Has(backend.ReadyWritable), "%v", bits)
			require.NotZero(t, bits&(backend.ReadyError|backend.ReadyWriteClosed), "%v", bits)
			_, err := w.TryWrite([]byte("x"))
			require.ErrorIs(t, err, syscall.EPIPE)
		},
	},
	// contract: M1, M7
	{
		name: "a FIFO",
		rule: "M1, M7: named pipes are sources",
		run: func(t *testing.T, q *queue) {
			r, w := fixture.FIFO(t)
			q.addSpecial(r, 1, backend.Readable)
			q.silent("empty")
			w.Write("x")
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			require.Equal(t, "x", r.Read(4))
			q.silent("empty")
			w.Close()
			q.expectBits(1, readClosed)
		},
	},
	// contract: M1, M7
	{
		name: "a Unix stream socket",
		rule: "M1, M7: Unix stream sockets are sources",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.UnixPair(t)
			q.add(a, 1, rw)
			require.Equal(t, backend.ReadyWritable, q.expect(1))
			b.Write("x")
			q.expectBits(1, backend.ReadyReadable|backend.ReadyWritable)
			b.Close()
			q.expectBits(1, readClosed|backend.ReadyWriteClosed)
		},
	},
	// contract: M1
	{
		name: "a Unix datagram socket",
		rule: "M1: Unix datagram sockets are sources",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.DatagramPair(t)
			q.add(a, 1, backend.Readable)
			b.Write("one")
			b.Write("two")
			for _, want := range []string{"one", "two"} {
				require.Equal(t, backend.ReadyReadable, q.expect(1))
				require.Equal(t, want, a.Read(16))
			}
			q.silent("read")
		},
	},
	// contract: M1, M7
	{
		name: "a terminal",
		rule: "M1, M7: terminals are sources",
		run: func(t *testing.T, q *queue) {
			master, slave := fixture.Terminal(t)
			q.addSpecial(slave, 1, backend.Readable)
			q.addSpecial(master, 2, backend.Readable)
			q.silent("nothing typed")
			master.Write("hello\n")
			seen := map[backend.Key]bool{}
			for len(seen) < 2 { // the slave gets the line, the master its echo
				for _, ev := range q.wait(4, soon) {
					require.True(t, ev.Ready.Has(backend.ReadyReadable))
					if !seen[ev.Key] {
						seen[ev.Key] = true
						if ev.Key == 1 {
							require.Equal(t, "hello\n", slave.Read(64))
						} else {
							require.Contains(t, master.Read(64), "hello")
						}
					}
				}
			}
			q.remove(slave)
			slave.Close()
			r := q.expectBits(2, backend.ReadyReadable)
			require.True(t, r.Has(backend.ReadyReadable))
		},
	},
	// contract: M1, M2, M3
	{
		name: "a terminal that hung up",
		rule: "M1, M2, M3: a source that never changes again keeps its mode: level repeats, edge and one-shot do not",
		run: func(t *testing.T, q *queue) {
			for _, mode := range modesOf(q) {
				master, slave := fixture.Terminal(t)
				master.Close()
				q.addSpecial(slave, 1, backend.Readable|mode)
				require.True(t, q.expect(1).Has(backend.ReadyReadable))
				if mode == 0 {
					require.True(t, q.expect(1).Has(backend.ReadyReadable), "level: again")
				} else {
					q.silent("unchanged")
				}
				q.modify(slave, 2, backend.Readable|mode)
				require.True(t, q.expect(2).Has(backend.ReadyReadable))
				q.remove(slave)
				require.ErrorIs(t, q.Delete(slave.Handle()), fs.ErrNotExist)
			}
		},
	},
	// contract: M1, M2
	{
		name: "an eventfd",
		rule: "M1, M2: an eventfd is a source",
		run: func(t *testing.T, q *queue) {
			e := fixture.Eventfd(t)
			one := "\x01\x00\x00\x00\x00\x00\x00\x00"
			q.add(e, 1, backend.Readable)
			q.silent("zero")
			e.Write(one)
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			require.Len(t, e.Read(8), 8)
			q.silent("read")
		},
	},
	// contract: R8
	{
		name: "a regular file is refused",
		rule: "R8: a file that cannot be watched is refused with ErrNotPollable",
		run:  func(t *testing.T, q *queue) { refused(t, q, fixture.RegularFile(t)) },
	},
	// contract: R8
	{
		name: "a directory is refused",
		rule: "R8: a file that cannot be watched is refused with ErrNotPollable",
		run:  func(t *testing.T, q *queue) { refused(t, q, fixture.Directory(t)) },
	},
	// contract: R8
	{
		name: "a closed descriptor is refused",
		rule: "R8: a closed descriptor is refused with EBADF",
		run: func(t *testing.T, q *queue) {
			a, _ := fixture.Pair(t)
			h := a.Handle()
			a.Close()
			require.ErrorIs(t, q.Add(h, 1, backend.Readable), syscall.EBADF)
			q.silent("nothing is registered")
		},
	},
	// contract: R8
	{
		name: "an impossible descriptor is refused",
		rule: "R8: an impossible descriptor is refused with EBADF",
		run: func(t *testing.T, q *queue) {
			a, _ := fixture.Pair(t)
			for _, fd := range []int64{-1, -2, -1 << 31, 1 << 31, 1 << 32, 1<<32 | int64(a.FD)} {
				if fd > 0 && uint64(backend.Handle(fd)) != uint64(fd) {
					continue // does not fit in 32 bits
				}
				require.ErrorIs(t, q.Add(backend.Handle(fd), 1, backend.Readable), syscall.EBADF, "fd %d", fd)
			}
			q.silent("nothing is registered")
		},
	},
	// contract: E4
	{
		name: "the queue still works after refusals",
		rule: "E4: an error affects no existing registration and no event",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable)
			b.Write("x")
			f := fixture.RegularFile(t)
			for range 100 {
				require.Error(t, q.Add(f.Handle(), 2, backend.Readable))
				require.Error(t, q.Add(backend.Handle(1<<20), 3, backend.Readable))
			}
			require.Equal(t, backend.ReadyReadable, q.expect(1))
		},
	},
	// contract: E4
	{
		name: "running out of descriptors",
		rule: "E4: running out of descriptors is an error for the caller that needs one; registrations and waiting still work",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable)
			restore := fixture.LowerDescriptorLimit(t)
			defer restore()
			_, err := os.Open(os.DevNull)
			require.ErrorIs(t, err, syscall.EMFILE)
			b.Write("x")
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			q.modify(a, 2, backend.Readable)
			require.Equal(t, backend.ReadyReadable, q.expect(2))
			q.remove(a)
			q.add(a, 3, backend.Readable)
			require.Equal(t, backend.ReadyReadable, q.expect(3))
		},
	},
}

// refused requires that e cannot be registered.
func refused(t *testing.T, q *queue, e *fixture.End) {
	for _, in := range []backend.Interest{backend.Readable, backend.Writable, rw} {
		require.ErrorIs(t, q.Add(e.Handle(), 1, in), backend.ErrNotPollable)
	}
	q.silent("nothing is registered")
}
