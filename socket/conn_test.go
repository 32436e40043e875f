//go:build unix || windows

package socket_test

import (
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
)

// contract: N1
func TestConn_ReadAndWrite(t *testing.T) {
	eachLink(t, "N1: Conn is an io.Reader and io.Writer that never blocks", func(t *testing.T, a, b *socket.Conn) {
		buf := make([]byte, 8)
		n, err := a.Read(buf)
		require.Zero(t, n)
		require.True(t, err == socket.ErrWouldBlock, "%v", err)

		n, err = a.Write([]byte("ping"))
		require.NoError(t, err)
		require.Equal(t, 4, n)
		require.Equal(t, "pin", read(t, b, 3))
		require.Equal(t, "g", read(t, b, 8))

		require.NoError(t, a.Close())
		awaitReadable(t, b)
		for range 2 {
			n, err = b.Read(buf)
			require.Zero(t, n)
			require.True(t, err == io.EOF, "%v", err)
		}
	})
}

// contract: N1
func TestErrWouldBlock_MatchesEAGAIN(t *testing.T) {
	err := socket.ErrWouldBlock
	require.ErrorIs(t, err, syscall.EAGAIN)
	require.NotErrorIs(t, err, net.ErrClosed)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout())
	require.ErrorContains(t, err, "would block")
	require.ErrorIs(t, socket.ErrTruncated, io.ErrShortBuffer)
}

// contract: N2
func TestConn_EmptyReadsAndWrites(t *testing.T) {
	eachLink(t, "N2: an empty read or write of a stream does nothing, and is not the end of the stream", func(t *testing.T, a, b *socket.Conn) {
		nothing := func() {
			t.Helper()
			for _, op := range []func([]byte) (int, error){a.Read, a.Write, b.Read, b.Write} {
				n, err := op(nil)
				require.NoError(t, err)
				require.Zero(t, n)
			}
			n, err := b.ReadBuffers([][]byte{nil, {}})
			require.NoError(t, err)
			require.Zero(t, n)
			written, err := a.WriteBuffers(&net.Buffers{nil, {}})
			require.NoError(t, err)
			require.Zero(t, written)
		}
		nothing()
		write(t, a, "x")
		awaitReadable(t, b)
		nothing()
		require.Equal(t, "x", read(t, b, 8))
		require.NoError(t, a.CloseWrite())
		awaitReadable(t, b)
		nothing()
		_, err := b.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		_, err = b.ReadBuffers([][]byte{nil, make([]byte, 1)})
		require.Equal(t, io.EOF, err)
		require.NoError(t, a.Close())
		_, err = a.Read(nil)
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = a.Write(nil)
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

// contract: N2
func TestConn_CloseWrite(t *testing.T) {
	eachLink(t, "N2: after CloseWrite the peer reads all data and the end of the stream, and its writes still arrive", func(t *testing.T, a, b *socket.Conn) {
		write(t, a, "the request")
		require.NoError(t, a.CloseWrite())
		_, err := a.Write([]byte("more"))
		require.ErrorIs(t, err, errShut)
		require.Equal(t, "the request", readAll(t, b))
		write(t, b, "the answer")
		require.NoError(t, b.Close())
		require.Equal(t, "the answer", readAll(t, a))
	})
}

// contract: N2
func TestConn_CloseRead(t *testing.T) {
	eachLink(t, "N2: after CloseRead reads return io.EOF, and writes still work", func(t *testing.T, a, b *socket.Conn) {
		require.NoError(t, a.CloseRead())
		_, err := a.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		write(t, a, "still")
		require.Equal(t, "still", read(t, b, 8))
	})
}

// contract: N2
func TestConn_Reset(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6"} {
		t.Run(network, func(t *testing.T) {
			guard(t, "N2: closing a Conn with linger 0 resets its peer")
			a, b := connected(t, network, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network])
			write(t, b, "never read")
			require.NoError(t, a.SetLinger(0))
			require.NoError(t, a.Close())
			awaitReadable(t, b)
			_, err := b.Read(make([]byte, 1))
			if fixture.ResetIsEnd() {
				require.Equal(t, io.EOF, err, "the stream just ends")
			} else {
				require.ErrorIs(t, err, fixture.WasReset)
				require.ErrorContains(t, err, "read "+network[:3])
				var op *net.OpError
				require.ErrorAs(t, err, &op)
			}
			_, err = b.Write([]byte("x"))
			isGone(t, err)
			if runtime.GOOS != "windows" { // where a reset socket may still know it
				require.Nil(t, b.RemoteAddr(), "the system no longer knows the peer")
			}
			require.NotNil(t, b.LocalAddr())
		})
	}
}

// isGone requires that err is the error of writing to a peer that is gone.
func isGone(t *testing.T, err error) {
	t.Helper()
	require.True(t, slices.ContainsFunc(errGone, func(gone error) bool { return errors.Is(err, gone) }), "%v", err)
}

// contract: N3
func TestConn_WriteToClosedPeerRaisesNoSignal(t *testing.T) {
	eachLink(t, "N3: a write to a closed peer returns an error, and never raises SIGPIPE", func(t *testing.T, a, b *socket.Conn) {
		pipes := make(chan os.Signal, 16)
		signal.Notify(pipes, syscall.SIGPIPE)
		defer signal.Stop(pipes)
		require.NoError(t, b.Close())
		broken := func(write func() error) {
			t.Helper()
			for { // TCP accepts the first writes: the reset arrives later
				err := write()
				if err == nil {
					runtime.Gosched()
					continue
				}
				if errors.Is(err, syscall.ECONNRESET) {
					continue // reported once
				}
				isGone(t, err)
				return
			}
		}
		broken(func() error { _, err := a.Write([]byte("x")); return err })
		broken(func() error { _, err := a.WriteBuffers(&net.Buffers{[]byte("x"), []byte("y")}); return err })
		require.Empty(t, pipes)
	})
}

// Both directions at once, with far more data than the system buffers, through a Poll.
// contract: N1
func TestConn_BigWritesThroughPoll(t *testing.T) {
	const size = 1 << 20
	data := random(size)
	eachQueue(t, "N1: all written data arrives, however often a write would block", func(t *testing.T, p *epore.Poll) {
		for _, mode := range modes(p) {
			for l := range linksHere(t) {
				a, b := l.make(t)
				exchange(t, p, mode, [2]*socket.Conn{a, b}, data)
				require.NoError(t, a.Close())
				require.NoError(t, b.Close())
			}
		}
	})
}

// exchange sends data from each Conn to the other.
func exchange(t *testing.T, p *epore.Poll, mode epore.Interest, conns [2]*socket.Conn, data []byte) {
	var sent, got [2]int
	var ended [2]bool
	for i, c := range conns {
		require.NoError(t, c.SetWriteBuffer(64<<10)) // so that writes would block
		require.NoError(t, c.SetReadBuffer(64<<10))
		require.NoError(t, p.Registry().Register(c, epore.Token(i), epore.Readable|epore.Writable|mode))
	}
	buf := make([]byte, 100_000)
	blocked := 0
	for !ended[0] || !ended[1] {
		for _, ev := range next(t, p) {
			i := int(ev.Token)
			c := conns[i]
			for ev.Readable() && !ended[i] {
				n, err := c.Read(buf)
				require.Equal(t, data[got[i]:got[i]+n], buf[:n])
				got[i] += n
				if err == socket.ErrWouldBlock {
					break
				}
				if ended[i] = err == io.EOF; ended[i] {
					break
				}
				require.NoError(t, err)
			}
			if ev.Writable() && sent[i] < len(data) {
				err := error(nil)
				for err == nil && sent[i] < len(data) { // in parts: Windows takes any length at once
					n := 0
					part := data[sent[i]:min(sent[i]+len(buf), len(data))]
					n, err = c.Write(part)
					sent[i] += n
					if err == nil {
						require.Len(t, part, n, "a short write without ErrWouldBlock")
					}
				}
				if err == socket.ErrWouldBlock {
					blocked++
					continue
				}
				require.NoError(t, err)
				require.NoError(t, c.CloseWrite())
				if mode == 0 {
					require.NoError(t, p.Registry().Reregister(c, ev.Token, epore.Readable))
				}
			}
		}
	}
	require.Equal(t, [2]int{len(data), len(data)}, got)
	require.NotZero(t, blocked, "no write would have blocked: the test proves nothing")
}

// With edge-triggered interest the next event follows ErrWouldBlock.
// contract: M2, N1
func TestEdge_FollowsWouldBlock(t *testing.T) {
	eachQueue(t, "M2: with edge-triggered interest, an event is certain after ErrWouldBlock", func(t *testing.T, p *epore.Poll) {
		if len(modes(p)) == 1 {
			t.Skip("no Edge on " + p.Backend())
		}
		buf := make([]byte, 1<<20)
		for l := range linksHere(t) {
			a, b := l.make(t)
			require.NoError(t, a.SetWriteBuffer(64<<10))
			require.NoError(t, b.SetReadBuffer(64<<10))
			require.NoError(t, p.Registry().Register(a, 1, epore.Readable|epore.Writable|epore.Edge))
			for range 10 {
				for { // fill it
					if _, err := a.Write(buf[:50_000]); err == socket.ErrWouldBlock {
						break
					}
				}
				_, err := a.Read(make([]byte, 1))
				require.Equal(t, socket.ErrWouldBlock, err)
				for { // drain it
					n, err := b.Read(buf)
					if err == socket.ErrWouldBlock {
						if _, local := b.LocalAddr().(*net.UnixAddr); !local { // more may be in transit
							if fixture.Readable(descriptor(t, b), time.Millisecond) {
								continue
							}
						}
						break
					}
					require.NoError(t, err)
					require.NotZero(t, n)
				}
				await(t, p, 1, epore.Event.Writable)
				write(t, b, "x")
				await(t, p, 1, epore.Event.Readable)
				require.Equal(t, "x", read(t, a, 8))
			}
			require.NoError(t, a.Close())
		}
	})
}

// A queue without Edge may emulate it for sockets that report when they would block.
// contract: M2
func TestEdge_EmulatedForSocketsOnly(t *testing.T) {
	eachQueue(t, "M2: Capabilities includes Edge if every source supports it; a queue may support it only for the sockets of this package", func(t *testing.T, p *epore.Poll) {
		if p.Capabilities().Interests.Has(epore.Edge) {
			t.Skip(p.Backend() + " supports it for all sources")
		}
		a, _ := pair(t)
		other, _ := netLink(t, "tcp", "127.0.0.1:0")
		const in = epore.Readable | epore.Edge
		for _, s := range []epore.Source{epore.FD(descriptor(t, a)), other.(*net.TCPConn)} {
			require.ErrorIs(t, p.Registry().Register(s, 1, in), errors.ErrUnsupported, "%T", s)
			require.NoError(t, p.Registry().Register(s, 1, epore.Readable))
			require.ErrorIs(t, p.Registry().Reregister(s, 1, in), errors.ErrUnsupported, "%T", s)
			require.NoError(t, p.Registry().Deregister(s))
		}
		err := p.Registry().Register(a, 1, in)
		if len(modes(p)) == 1 {
			require.ErrorIs(t, err, errors.ErrUnsupported)
			return
		}
		require.NoError(t, err)
		require.NoError(t, p.Registry().Reregister(a, 1, in))
	})
}

// A Write never makes the system buffer all of it, however much it is.
// contract: N1
func TestConn_WriteIsBounded(t *testing.T) {
	eachLink(t, "N1: a Write that the peer does not read would block", func(t *testing.T, a, b *socket.Conn) {
		require.NoError(t, a.SetWriteBuffer(64<<10))
		require.NoError(t, b.SetReadBuffer(64<<10))
		data := make([]byte, 64<<20)
		n, err := a.Write(data)
		require.Equal(t, socket.ErrWouldBlock, err, "after %d", n)
		require.Less(t, n, 16<<20)
		bufs := net.Buffers{data, data}
		written, err := a.WriteBuffers(&bufs)
		require.Equal(t, socket.ErrWouldBlock, err, "after %d", written)
		require.Less(t, written, int64(16<<20))
	})
}

// contract: N2
func TestConn_Buffers(t *testing.T) {
	eachLink(t, "N2: vectored reads fill each buffer before the next; vectored writes consume what they have written", func(t *testing.T, a, b *socket.Conn) {
		bufs := net.Buffers{[]byte("ab"), nil, []byte("cde"), []byte("f"), {}}
		n, err := a.WriteBuffers(&bufs)
		require.NoError(t, err)
		require.EqualValues(t, 6, n)
		require.Empty(t, bufs)
		in := [][]byte{make([]byte, 1), {}, make([]byte, 4), make([]byte, 8)}
		awaitReadable(t, b)
		got, err := b.ReadBuffers(in)
		require.NoError(t, err)
		require.Equal(t, 6, got)
		require.Equal(t, "abcdef", string(in[0])+string(in[2])+string(in[3][:1]))
		got, err = b.ReadBuffers(in)
		require.Equal(t, socket.ErrWouldBlock, err)
		require.Zero(t, got)

		// More buffers than a system call takes, and more bytes than the system has room for.
		require.NoError(t, a.SetWriteBuffer(64<<10))
		require.NoError(t, b.SetReadBuffer(64<<10))
		data := random(2 << 20)
		bufs = nil
		for rest, size := data, 1; len(rest) > 0; size = size%1700 + 13 {
			size = min(size, len(rest))
			bufs = append(bufs, rest[:size], nil)
			rest = rest[size:]
		}
		require.Greater(t, len(bufs), 2000)
		var received []byte
		blocked := 0
		for len(bufs) > 0 || len(received) < len(data) {
			before := len(bufs)
			n, err := a.WriteBuffers(&bufs)
			if err == socket.ErrWouldBlock {
				blocked++
			} else {
				require.NoError(t, err)
				require.Empty(t, bufs)
			}
			require.True(t, n > 0 || err != nil || before == 0)
			in := make([][]byte, 1500)
			for i := range in {
				in[i] = make([]byte, 61)
			}
			awaitReadable(t, b)
			got, err := b.ReadBuffers(in)
			require.NoError(t, err)
			for _, b := range in {
				b = b[:min(len(b), got)]
				received = append(received, b...)
				got -= len(b)
			}
		}
		require.Equal(t, data, received)
		require.NotZero(t, blocked)
		require.NoError(t, b.Close())
		bufs = net.Buffers{[]byte("x"), []byte("y")}
		for err = nil; err == nil; {
			again := append(net.Buffers(nil), bufs...)
			if _, err = a.WriteBuffers(&again); err != nil {
				require.Len(t, again, 2, "nothing was written")
			}
		}
		require.NotEqual(t, socket.ErrWouldBlock, err)
	})
}

// contract: N4
func TestConn_ConcurrentReadAndWrite(t *testing.T) {
	eachLink(t, "N4: a goroutine that reads and one that writes do not disturb each other", func(t *testing.T, a, b *socket.Conn) {
		data := random(1 << 20)
		var all sync.WaitGroup
		for _, c := range []*socket.Conn{a, b} {
			all.Go(func() {
				write(t, c, string(data))
				require.NoError(t, c.CloseWrite())
			})
			all.Go(func() { require.Equal(t, string(data), readAll(t, c)) })
		}
		all.Wait()
	})
}

// Operations concurrent with Close succeed, or fail with net.ErrClosed. None reaches the
// next socket that gets the same number.
// contract: N4
func TestClose_ConcurrentWithOperations(t *testing.T) {
	guard(t, "N4: no operation reaches the next socket that gets the same descriptor number")
	poison := []byte("poison")
	met, rounds := 0, 0
	for range backendtest.Rounds(t, 300, 20_000) {
		rounds++
		var others []*socket.Conn
		a, b, err := socket.Pair()
		require.NoError(t, err)
		number := descriptor(t, a)
		var users sync.WaitGroup
		var busy atomic.Int32
		for i := range 4 {
			users.Go(func() {
				buf := make([]byte, 16)
				for {
					var err error
					switch i {
					case 0:
						_, err = a.Write(poison)
					case 1:
						_, err = a.Read(buf)
					case 2:
						_, err = a.WriteBuffers(&net.Buffers{poison})
					case 3:
						_, err = a.ReadBuffers([][]byte{buf})
					}
					busy.Add(1)
					if err == socket.ErrWouldBlock || err == nil {
						runtime.Gosched()
						continue
					}
					require.ErrorIs(t, err, net.ErrClosed)
					return
				}
			})
		}
		for busy.Load() < 4 {
			runtime.Gosched()
		}
		require.NoError(t, a.Close())
		// The number is free now, or will be in a moment: create sockets until one gets it.
		var c, d *socket.Conn
		for {
			c, d, err = socket.Pair()
			require.NoError(t, err)
			write(t, c, "c")
			write(t, d, "d")
			if descriptor(t, c) == number || descriptor(t, d) == number {
				met++
				break
			}
			if runtime.GOOS == "windows" { // it does not reuse the lowest number
				if len(others) > 16 {
					break
				}
				others = append(others, c, d)
			} else {
				require.NoError(t, c.Close())
				require.NoError(t, d.Close())
			}
			runtime.Gosched()
		}
		users.Wait()
		require.Equal(t, "d", read(t, c, 16))
		require.Equal(t, "c", read(t, d, 16))
		for _, s := range []*socket.Conn{c, d} {
			_, err := s.Read(make([]byte, 16))
			require.Equal(t, socket.ErrWouldBlock, err)
		}
		for _, s := range append(others, b, c, d) {
			require.NoError(t, s.Close())
		}
	}
	t.Logf("the number was reused in %d of %d rounds", met, rounds)
	require.NotZero(t, met)
}

// contract: N4
func TestClose_LaterCallsFail(t *testing.T) {
	eachLink(t, "N4: every method of a closed Conn returns net.ErrClosed", func(t *testing.T, a, b *socket.Conn) {
		raw, err := a.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, a.Close())
		buf := make([]byte, 1)
		_, readErr := a.Read(buf)
		_, writeErr := a.Write(buf)
		_, readsErr := a.ReadBuffers([][]byte{buf})
		_, writesErr := a.WriteBuffers(&net.Buffers{buf})
		_, rawErr := a.SyscallConn()
		for i, err := range []error{
			readErr, writeErr, readsErr, writesErr, rawErr,
			a.Close(), a.CloseRead(), a.CloseWrite(), a.ConnectError(),
			a.SetNoDelay(true), a.SetKeepAlive(true), a.SetLinger(1), a.SetReadBuffer(1), a.SetWriteBuffer(1),
			raw.Control(func(uintptr) { t.Error("called") }),
			raw.Read(func(uintptr) bool { t.Error("called"); return true }),
			raw.Write(func(uintptr) bool { t.Error("called"); return true }),
		} {
			require.ErrorIs(t, err, net.ErrClosed, "%d", i)
		}
		require.Nil(t, a.LocalAddr())
		require.Nil(t, a.RemoteAddr())
	})
}

// contract: N4
func TestSockets_ZeroValueIsClosed(t *testing.T) {
	guard(t, "N4: a zero value is a closed socket, not descriptor 0")
	var c socket.Conn
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, c.Close(), net.ErrClosed)
	var l socket.Listener
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, l.Close(), net.ErrClosed)
	var p socket.PacketConn
	_, err = p.Write(nil)
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, p.Close(), net.ErrClosed)
}

// Values that hold nothing are errors.
// contract: E3
func TestSockets_NilInside(t *testing.T) {
	guard(t, "E3: no input panics")
	a, _ := pair(t)
	_, err := a.WriteBuffers(nil)
	require.ErrorIs(t, err, os.ErrInvalid)
	_, err = a.ReadBuffers(nil)
	require.NoError(t, err)
	for _, c := range []net.Conn{&net.UnixConn{}, &net.TCPConn{}} {
		_, err = socket.FromConn(c)
		require.Error(t, err, "%T", c)
	}
	for _, c := range []net.PacketConn{&net.UnixConn{}, &net.UDPConn{}} {
		_, err = socket.FromPacketConn(c)
		require.Error(t, err, "%T", c)
	}
	p, err := epore.New()
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	for _, s := range []epore.Source{
		struct{ *socket.Conn }{}, &struct{ *socket.Conn }{}, struct{ *socket.Listener }{}, struct{ *socket.PacketConn }{},
		(*socket.Conn)(nil), &socket.Conn{},
	} {
		for _, err := range []error{p.Registry().Register(s, 1, epore.Readable), p.Registry().Reregister(s, 1, epore.Readable), p.Registry().Deregister(s)} {
			var op *epore.OpError
			require.ErrorAs(t, err, &op, "%T", s)
		}
	}
}

// contract: N4
func TestSyscallConn_KeepsDescriptorOpen(t *testing.T) {
	guard(t, "N4: SyscallConn keeps the descriptor open during the call, and never waits")
	a, _ := pair(t)
	raw, err := a.SyscallConn()
	require.NoError(t, err)
	calls := 0
	require.NoError(t, raw.Read(func(uintptr) bool { calls++; return true }))
	require.Equal(t, socket.ErrWouldBlock, raw.Read(func(uintptr) bool { calls++; return false }))
	require.Equal(t, socket.ErrWouldBlock, raw.Write(func(uintptr) bool { calls++; return false }))
	require.Equal(t, 3, calls)
	require.NoError(t, raw.Control(func(fd uintptr) {
		require.NoError(t, a.Close(), "Close does not wait for this call")
		require.True(t, fixture.IsOpen(int(fd)), "until this call returns")
	}))
	require.Panics(t, func() {
		b, _ := pair(t)
		raw, _ := b.SyscallConn()
		defer func() {
			number := descriptor(t, b)
			require.NoError(t, b.Close())
			require.False(t, fixture.IsOpen(number), "a panic releases it")
		}()
		_ = raw.Control(func(uintptr) { panic("in a callback") })
	})
}

// requireFlags requires that the descriptor of s is non-blocking, and that started programs
// do not inherit it.
func requireFlags(t *testing.T, s syscall.Conn) {
	t.Helper()
	fd := descriptor(t, s)
	inherited, open := fixture.Descriptors(fd + 1)[fd]
	require.True(t, open)
	require.False(t, inherited)
	require.False(t, blocks(t, fd))
}

// contract: N4
func TestSockets_DescriptorFlags(t *testing.T) {
	for _, l := range links {
		t.Run(l.name, func(t *testing.T) {
			a, b := l.make(t)
			for _, s := range []syscall.Conn{a, b} {
				requireFlags(t, s)
			}
		})
	}
}

// contract: R7
func TestClose_Deregisters(t *testing.T) {
	eachQueue(t, "R7: Close first deregisters, from every Poll, also inside a loop over events", func(t *testing.T, p *epore.Poll) {
		for l := range linksHere(t) {
			a, b := l.make(t)
			c, d := l.make(t)
			for i, s := range []*socket.Conn{a, c} {
				require.NoError(t, p.Registry().Register(s, epore.Token(i), epore.Readable|epore.Writable))
			}
			write(t, b, "x")
			write(t, d, "x")
			events := epore.NewEvents(4)
			for seen := 0; seen < 2; { // until both are in one batch
				require.NoError(t, p.Poll(events, fixture.Soon))
				seen = events.Len()
			}
			conns := [2]*socket.Conn{a, c}
			var others []*socket.Conn
			delivered := 0
			for ev := range events.All() {
				delivered++
				number := descriptor(t, conns[1-ev.Token])
				require.NoError(t, conns[1-ev.Token].Close(), "the other one, before its event is delivered")
				e, f := pair(t) // one may get its number
				others = append(others, e, f)
				require.NoError(t, p.Registry().Register(e, 7, epore.Readable), "fd %d, after %d", descriptor(t, e), number)
				write(t, f, "x")
			}
			require.Equal(t, 1, delivered)
			tokens := map[epore.Token]bool{}
			for len(tokens) < 2 {
				for _, ev := range next(t, p) {
					tokens[ev.Token] = true
				}
			}
			require.True(t, tokens[7], "%v", tokens)
			require.Len(t, tokens, 2, "the one that closed the other is still registered")
			for _, s := range append(others, a, b, c, d) {
				_ = s.Close()
			}
		}
	})
}
