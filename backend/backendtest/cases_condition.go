//go:build unix || windows

package backendtest

import (
	"errors"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// Abbreviations.
const (
	rw         = backend.Readable | backend.Writable
	readClosed = backend.ReadyReadable | backend.ReadyReadClosed
)

// conditionCases test which bits report what the peer and the network do.
var conditionCases = []wantedCase{
	// contract: M5
	{
		name: "a fresh socket is writable",
		rule: "M5: a source with room to write is Writable",
		run: func(t *testing.T, q *queue) {
			for _, of := range []func(testing.TB) (*fixture.End, *fixture.End){fixture.Pair, fixture.TCPPair, fixture.UDPPair, fixture.DatagramPair} {
				a, _ := of(t)
				q.add(a, 1, rw)
				require.Equal(t, backend.ReadyWritable, q.expect(1), "%v", a)
				q.remove(a)
			}
		},
	},
	// contract: M1
	{
		name: "back-pressure",
		rule: "M1: a source is not Writable while its buffer is full, and Writable once it has drained",
		run: func(t *testing.T, q *queue) {
			for _, of := range []func(testing.TB) (*fixture.End, *fixture.End){fixture.Pair, fixture.TCPPair} {
				a, b := of(t)
				sent := 0
				// TCP moves data to the peer for a while: fill until the buffer stays full.
				for n := a.Fill(); n > 0; n = a.Fill() {
					sent += n
				}
				q.add(a, 1, backend.Writable)
				for len(q.wait(4, quiet)) > 0 {
					sent += a.Fill()
				}
				got := 0
				for got < sent {
					b.AwaitReadable()
					n, _ := b.Drain()
					got += n
				}
				require.Equal(t, backend.ReadyWritable, q.expect(1), "%v", a)
				q.remove(a)
			}
		},
	},
	// contract: M8
	{
		name: "connect succeeds",
		rule: "M8: Writable when the connection attempt has ended",
		run: func(t *testing.T, q *queue) {
			l, port := fixture.Listen(t)
			a := fixture.Inet(t, syscall.SOCK_STREAM, "TCP")
			require.NoError(t, a.Connect(port))
			q.add(a, 1, rw)
			r := q.expect(1)
			require.Equal(t, backend.ReadyWritable, r)
			require.NoError(t, a.PendingError())
			b := l.Accept()
			b.Write("x")
			require.Equal(t, backend.ReadyReadable|backend.ReadyWritable, q.expectBits(1, backend.ReadyReadable))
		},
	},
	// contract: M7, M8
	{
		name: "registered before connect",
		rule: "M7: a TCP socket may report ReadClosed|WriteClosed until connect is called on it, and not after that; M8: then Writable",
		run: func(t *testing.T, q *queue) {
			const hints = backend.ReadyReadClosed | backend.ReadyWriteClosed | backend.ReadyError
			for _, mode := range modesOf(q) {
				l, port := fixture.Listen(t)
				a := fixture.Inet(t, syscall.SOCK_STREAM, "TCP")
				q.add(a, 1, rw|mode)
				for _, ev := range q.wait(4, quiet) {
					require.Zero(t, ev.Ready&backend.ReadyError, "mode %v", mode)
				}
				require.NoError(t, a.Connect(port))
				if mode.Has(backend.OneShot) { // the hint may have used the shot
					q.modify(a, 1, rw|mode)
				}
				require.Equal(t, backend.ReadyWritable, q.expect(1), "mode %v", mode)
				require.NoError(t, a.PendingError())
				b := l.Accept()
				b.Write("x")
				if mode.Has(backend.OneShot) {
					a.AwaitReadable()
					q.modify(a, 1, rw|mode)
				}
				require.Zero(t, q.expectBits(1, backend.ReadyReadable)&hints, "mode %v", mode)
				q.remove(a)
			}
		},
	},
	// contract: M8
	{
		name: "connect is refused",
		rule: "M8: a refused connection attempt is Writable|Error",
		run: func(t *testing.T, q *queue) {
			l, port := fixture.Listen(t)
			l.Close() // the port now refuses connections
			a := fixture.Inet(t, syscall.SOCK_STREAM, "TCP")
			if err := a.Connect(port); err != nil {
				requireRefused(t, err)
				t.Skip("connect failed immediately: there is nothing to wait for")
			}
			q.add(a, 1, backend.Writable)
			r := q.expect(1)
			q.requireBits(backend.ReadyWritable|backend.ReadyError, r)
			requireRefused(t, a.PendingError())
		},
	},
	// contract: M1
	{
		name: "a listener with pending connections",
		rule: "M1: a listener is Readable while a connection waits to be accepted",
		run: func(t *testing.T, q *queue) {
			l, port := fixture.Listen(t)
			q.add(l, 1, backend.Readable)
			q.silent("no connection")
			const n = 5
			for range n {
				require.NoError(t, fixture.Inet(t, syscall.SOCK_STREAM, "TCP").Connect(port))
			}
			for range n {
				require.Equal(t, backend.ReadyReadable, q.expect(1))
				l.Accept()
			}
			q.silent("all accepted")
		},
	},
	// contract: M2
	{
		name:  "several pending connections, one edge",
		rule:  "M2: one edge may stand for several connections: accept until would-block",
		needs: backend.Edge,
		run: func(t *testing.T, q *queue) {
			l, port := fixture.Listen(t)
			q.add(l, 1, backend.Readable|backend.Edge)
			for range 20 {
				require.NoError(t, fixture.Inet(t, syscall.SOCK_STREAM, "TCP").Connect(port))
				require.NoError(t, fixture.Inet(t, syscall.SOCK_STREAM, "TCP").Connect(port))
				require.Equal(t, backend.ReadyReadable, q.expect(1))
				l.Accept()
				l.Accept() // waits if the second one is still on its way
				q.wait(4, 0)
				_, err := l.TryAccept()
				require.True(t, fixture.WouldBlock(err), "%v", err)
			}
		},
	},
	// contract: M6, M7
	{
		name: "the peer closes",
		rule: "M7: the peer closed: Readable|ReadClosed; M6: in the same event",
		run: func(t *testing.T, q *queue) {
			for _, of := range []func(testing.TB) (*fixture.End, *fixture.End){fixture.Pair, fixture.TCPPair} {
				for _, mode := range modesOf(q) {
					a, b := of(t)
					q.add(a, 1, backend.Readable|mode)
					b.Close()
					r := q.expectBits(1, readClosed)
					require.False(t, r.Has(backend.ReadyWritable), "not requested")
					_, ended := a.Drain()
					require.True(t, ended)
					q.remove(a)
				}
			}
		},
	},
	// contract: M7
	{
		name: "the peer half-closes",
		rule: "M7: the peer half-closed: Readable|ReadClosed, and writing still works",
		run: func(t *testing.T, q *queue) {
			for _, of := range []func(testing.TB) (*fixture.End, *fixture.End){fixture.Pair, fixture.TCPPair} {
				a, b := of(t)
				q.add(a, 1, rw)
				b.ShutdownWrite()
				r := q.expectBits(1, readClosed|backend.ReadyWritable)
				require.False(t, r.Has(backend.ReadyWriteClosed), "the other half is still open: %v", r)
				require.False(t, r.Has(backend.ReadyError), "%v", r)
				a.Write("still")
				b.AwaitReadable()
				require.Equal(t, "still", b.Read(16))
				q.remove(a)
			}
		},
	},
	// contract: M5
	{
		name: "a half-close without Readable does not spin",
		rule: "M5: ReadClosed requires Readable: it does not wake a program that waits for room to write",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			a.Fill()
			q.add(a, 1, backend.Writable)
			b.ShutdownWrite()
			q.silent("no room to write")
			b.Drain()
			require.Equal(t, backend.ReadyWritable, q.expect(1)&^backend.ReadyReadClosed)
		},
	},
	// contract: M6, M7
	{
		name: "the peer resets",
		rule: "M7: a reset is ReadClosed|WriteClosed; M6: with the requested conditions",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.TCPPair(t)
			q.add(a, 1, rw)
			b.Reset()
			r := q.expectBits(1, readClosed|backend.ReadyWritable|backend.ReadyWriteClosed)
			q.requireBits(backend.ReadyError, r)
			a.ReadReset()
		},
	},
	// contract: M6, M7
	{
		name: "the peer closes with data unread",
		rule: "M6, M7: what the peer sent before it closed can still be read",
		run: func(t *testing.T, q *queue) {
			for _, of := range []func(testing.TB) (*fixture.End, *fixture.End){fixture.Pair, fixture.TCPPair} {
				a, b := of(t)
				q.add(a, 1, backend.Readable)
				b.Write("last words")
				b.Close()
				if fixture.EndAfterData() {
					q.expectBits(1, backend.ReadyReadable)
				} else {
					q.expectBits(1, readClosed)
				}
				require.Equal(t, "last words", a.Read(64))
				q.requireBits(readClosed, q.expect(1))
				_, ended := a.Drain()
				require.True(t, ended)
				q.remove(a)
			}
		},
	},
	// contract: M7
	{
		name: "a local shutdown of the write side",
		rule: "M7: a hint is never wrong: a local shutdown of the write side leaves the read side open",
		run: func(t *testing.T, q *queue) {
			for _, of := range []func(testing.TB) (*fixture.End, *fixture.End){fixture.Pair, fixture.TCPPair} {
				a, b := of(t)
				q.add(a, 1, backend.Readable)
				a.ShutdownWrite()
				for _, ev := range q.wait(4, quiet) {
					require.False(t, ev.Ready.Has(backend.ReadyReadClosed), "%v", ev.Ready)
				}
				b.Write("x")
				r := q.expectBits(1, backend.ReadyReadable)
				require.False(t, r.Has(backend.ReadyReadClosed), "%v", r)
				require.Equal(t, "x", a.Read(4))
				b.Close()
				q.expectBits(1, readClosed)
				q.remove(a)
			}
		},
	},
	// contract: M7
	{
		name: "both sides shut down",
		rule: "M7: both directions shut down: ReadClosed|WriteClosed",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, rw)
			a.ShutdownWrite()
			b.ShutdownWrite()
			q.expectBits(1, readClosed|backend.ReadyWriteClosed|backend.ReadyWritable)
		},
	},
	// contract: M5, M7
	{
		name: "a half-close does not wake a writer",
		rule: "M5, M7: a half-close of the peer is Readable; a registration without Readable does not report it and is not woken by it",
		run: func(t *testing.T, q *queue) {
			for _, mode := range modesOf(q) {
				for _, before := range []bool{false, true} {
					a, b := fixture.Pair(t)
					q.add(a, 1, backend.Writable|mode)
					require.Equal(t, backend.ReadyWritable, q.expect(1))
					a.Fill()
					if before {
						b.ShutdownWrite()
					}
					q.modify(a, 2, backend.Writable|mode)
					q.silent("full")
					if !before {
						b.ShutdownWrite()
						q.silent("full, and the peer has half-closed")
					}
					b.Drain()
					require.Equal(t, backend.ReadyWritable, q.expect(2)&^backend.ReadyReadClosed, "mode %v", mode)
					if mode == 0 {
						require.Equal(t, backend.ReadyWritable, q.expect(2)&^backend.ReadyReadClosed, "level: again")
						a.Fill()
						q.silent("full again")
						b.Drain()
						require.Equal(t, backend.ReadyWritable, q.expect(2)&^backend.ReadyReadClosed)
					}
					q.remove(a)
				}
			}
		},
	},
	// contract: M10
	{
		name:  "out-of-band data",
		rule:  "M10: urgent data is Priority if requested",
		needs: backend.Priority,
		run: func(t *testing.T, q *queue) {
			a, b := fixture.TCPPair(t)
			q.add(a, 1, backend.Priority)
			b.Write("ordinary")
			a.AwaitReadable()
			q.silent("not urgent")
			b.Write("ordinary")
			a.AwaitReadable()
			q.silent("not urgent, after a wait")
			b.SendUrgent('!')
			require.Equal(t, backend.ReadyPriority, q.expect(1))
			q.modify(a, 2, backend.Readable)
			require.Equal(t, backend.ReadyReadable, q.expect(2), "Priority was not requested")
			q.modify(a, 3, backend.Readable|backend.Priority)
			q.expectBits(3, backend.ReadyReadable|backend.ReadyPriority)
			q.remove(a)
			a, b = fixture.TCPPair(t)
			q.add(a, 4, backend.Readable|backend.Priority)
			q.silent("nothing sent")
			b.Write("ordinary")
			require.Equal(t, backend.ReadyReadable, q.expect(4), "not urgent")
		},
	},
	// contract: M1
	{
		name: "a datagram",
		rule: "M1: a datagram socket is Readable while a datagram waits",
		run: func(t *testing.T, q *queue) {
			for _, of := range []func(testing.TB) (*fixture.End, *fixture.End){fixture.UDPPair, fixture.DatagramPair} {
				a, b := of(t)
				q.add(a, 1, backend.Readable)
				q.silent("nothing sent")
				b.Write("ping")
				require.Equal(t, backend.ReadyReadable, q.expect(1))
				require.Equal(t, "ping", a.Read(16))
				q.silent("read")
				q.remove(a)
			}
		},
	},
	// contract: M1
	{
		name: "an empty datagram",
		rule: "M1: an empty datagram is Readable like any other",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.UDPPair(t)
			q.add(a, 1, backend.Readable)
			b.Write("")
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			require.Empty(t, a.Read(16))
			q.silent("read")
		},
	},
	// contract: M2
	{
		name:  "two datagrams with one event",
		rule:  "M2: one edge may stand for several datagrams: read until would-block",
		needs: backend.Edge,
		run: func(t *testing.T, q *queue) {
			a, b := fixture.UDPPair(t)
			b.Write("one")
			b.Write("two")
			q.add(a, 1, backend.Readable|backend.Edge)
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			require.Equal(t, "one", a.Read(16))
			require.Equal(t, "two", a.Read(16))
			_, err := a.TryRead(make([]byte, 16))
			require.True(t, fixture.WouldBlock(err))
			b.Write("three")
			require.Equal(t, backend.ReadyReadable, q.expect(1))
		},
	},
	// contract: M6, M7
	{
		name: "a datagram nobody wants",
		rule: "M6, M7: an error of a datagram socket comes with Readable and without WriteClosed",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.UDPPair(t)
			b.Close()
			q.add(a, 1, backend.Readable)
			a.Write("anybody there?")
			events := q.wait(4, soon)
			require.NotEmpty(t, events)
			r := events[0].Ready
			q.requireBits(backend.ReadyReadable|backend.ReadyError, r)
			require.False(t, r.Has(backend.ReadyWriteClosed), "%v", r)
			require.ErrorIs(t, a.PendingError(), fixture.Refused)
		},
	},
}

// requireRefused requires the error of a connection to a listener that was closed. DragonFly
// closes it a moment later: it may have accepted the connection by then, and reset it.
func requireRefused(t *testing.T, err error) {
	t.Helper()
	if runtime.GOOS == "dragonfly" && errors.Is(err, fixture.WasReset) {
		return
	}
	require.ErrorIs(t, err, fixture.Refused)
}
