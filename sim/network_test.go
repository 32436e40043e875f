//go:build !plan9

package sim_test

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/sim"
	"github.com/epore/epore/socket"
)

// inWorld runs f in a World with two hosts.
func inWorld(t *testing.T, f func(t *testing.T, w *sim.World, a, b *sim.Host)) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.NewSeed(t, 1)
		f(t, w, w.Host("a"), w.Host("b"))
	})
}

// connect returns both ends of a connection from b to a.
func connect(t *testing.T, w *sim.World, a, b *sim.Host) (l *socket.Listener, server, client *socket.Conn) {
	l, err := a.Listen("tcp", ":80")
	require.NoError(t, err)
	client, err = b.Dial("tcp", "a:80")
	require.NoError(t, err)
	require.Equal(t, socket.ErrWouldBlock, client.ConnectError())
	w.Sleep(time.Millisecond)
	require.NoError(t, client.ConnectError())
	server, err = l.Accept()
	require.NoError(t, err)
	return l, server, client
}

// contract: V1
func TestStream_Connects(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		l, server, client := connect(t, w, a, b)
		require.Equal(t, "10.0.0.1:80", l.Addr().String())
		require.Equal(t, client.LocalAddr(), server.RemoteAddr())
		require.Equal(t, client.RemoteAddr(), server.LocalAddr())
		require.Equal(t, "10.0.0.2:32768", client.LocalAddr().String())
		_, err := l.Accept()
		require.Equal(t, socket.ErrWouldBlock, err)

		n, err := client.Write([]byte("hello"))
		require.NoError(t, err)
		require.Equal(t, 5, n)
		buf := make([]byte, 10)
		_, err = server.Read(buf)
		require.Equal(t, socket.ErrWouldBlock, err, "it arrives when everybody is at rest")
		w.Settle()
		n, err = server.Read(buf)
		require.NoError(t, err)
		require.Equal(t, "hello", string(buf[:n]))

		require.NoError(t, client.CloseWrite())
		w.Settle()
		_, err = server.Read(buf)
		require.Equal(t, io.EOF, err)
		_, err = client.Write(buf)
		require.ErrorIs(t, err, syscall.EPIPE)
		_, err = server.Write([]byte("still"))
		require.NoError(t, err)
		require.NoError(t, server.Close())
		w.Settle()
		n, err = client.Read(buf)
		require.NoError(t, err)
		require.Equal(t, "still", string(buf[:n]))
		_, err = client.Read(buf)
		require.Equal(t, io.EOF, err)
		require.NoError(t, client.Close())
		require.ErrorIs(t, client.Close(), net.ErrClosed)
	})
}

// contract: V1
func TestStream_Refused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		c, err := b.Dial("tcp", "a:80")
		require.NoError(t, err)
		w.Settle()
		require.ErrorIs(t, c.ConnectError(), syscall.ECONNREFUSED)
		require.ErrorIs(t, c.ConnectError(), syscall.ECONNREFUSED)
		require.ErrorContains(t, c.ConnectError(), "10.0.0.1:80")

		c, err = b.Dial("tcp", "10.9.9.9:80")
		require.NoError(t, err)
		w.Settle()
		require.ErrorIs(t, c.ConnectError(), syscall.EHOSTUNREACH)

		w.Partition(a, b)
		c, err = b.Dial("tcp", "a:80")
		require.NoError(t, err)
		w.Sleep(126 * time.Second)
		require.Equal(t, socket.ErrWouldBlock, c.ConnectError())
		w.Sleep(2 * time.Second)
		require.ErrorIs(t, c.ConnectError(), syscall.ETIMEDOUT)
	})
}

// contract: V1
func TestStream_BackPressure(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		w.Faults(sim.Window(1000), sim.Latency(time.Millisecond, time.Millisecond))
		l, err := a.Listen("tcp", ":80")
		require.NoError(t, err)
		client, err := b.Dial("tcp", "a:80")
		require.NoError(t, err)
		w.Sleep(10 * time.Millisecond)
		server, err := l.Accept()
		require.NoError(t, err)
		n, err := client.Write(make([]byte, 1500))
		require.Equal(t, socket.ErrWouldBlock, err)
		require.Equal(t, 1000, n)
		w.Sleep(time.Second)
		_, err = client.Write(make([]byte, 1))
		require.Equal(t, socket.ErrWouldBlock, err)
		n, err = server.Read(make([]byte, 600))
		require.NoError(t, err)
		require.Equal(t, 600, n)
		w.Sleep(time.Millisecond)
		n, err = client.Write(make([]byte, 1500))
		require.Equal(t, socket.ErrWouldBlock, err)
		require.Equal(t, 600, n)
	})
}

// contract: V1
func TestStream_Bandwidth(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		_, server, client := connect(t, w, a, b)
		w.Faults(sim.Bandwidth(1000))
		_, err := client.Write(make([]byte, 500))
		require.NoError(t, err)
		_, err = client.Write(make([]byte, 500))
		require.NoError(t, err)
		w.Sleep(499 * time.Millisecond)
		_, err = server.Read(make([]byte, 1000))
		require.Equal(t, socket.ErrWouldBlock, err)
		w.Sleep(time.Millisecond)
		n, err := server.Read(make([]byte, 1000))
		require.NoError(t, err)
		require.Equal(t, 500, n)
		w.Sleep(500 * time.Millisecond)
		n, err = server.Read(make([]byte, 1000))
		require.NoError(t, err)
		require.Equal(t, 500, n)
	})
}

// contract: V1, V3
func TestStream_Reset(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		l, server, client := connect(t, w, a, b)
		require.NoError(t, client.SetLinger(0))
		require.NoError(t, client.Close())
		w.Settle()
		_, err := server.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
		_, err = server.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		_, err = server.Write(make([]byte, 1))
		require.ErrorIs(t, err, syscall.EPIPE)

		// Closing with unread data resets, too; so does data for a socket that is closed.
		client, err = b.Dial("tcp", "a:80")
		require.NoError(t, err)
		w.Settle()
		server, err = l.Accept()
		require.NoError(t, err)
		_, err = client.Write([]byte("unread"))
		require.NoError(t, err)
		w.Settle()
		require.NoError(t, server.Close())
		w.Settle()
		_, err = client.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)

		client, err = b.Dial("tcp", "a:80")
		require.NoError(t, err)
		w.Settle()
		server, err = l.Accept()
		require.NoError(t, err)
		require.NoError(t, server.Close())
		w.Settle()
		_, err = client.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		_, err = client.Write([]byte("nobody reads it"))
		require.NoError(t, err)
		w.Settle()
		_, err = client.Write([]byte("more"))
		require.ErrorIs(t, err, syscall.ECONNRESET)

		// A listener that closes resets what it has not accepted.
		client, err = b.Dial("tcp", "a:80")
		require.NoError(t, err)
		w.Settle()
		require.NoError(t, l.Close())
		w.Settle()
		_, err = client.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
}

// A misplaced option is an error here, too.
// contract: V1, E3
func TestHost_OptionNotForThisCall(t *testing.T) {
	inWorld(t, func(t *testing.T, _ *sim.World, a, b *sim.Host) {
		_, dial := b.Dial("tcp", "a:80", socket.Backlog(1))
		_, listen := a.Listen("tcp", ":80", socket.LocalAddr(":1000"))
		_, negative := a.Listen("tcp", ":80", socket.DeferAccept(-1))
		_, packet := a.ListenPacket("udp", ":80", socket.Backlog(1))
		for _, err := range []error{dial, listen, negative, packet} {
			require.ErrorIs(t, err, fs.ErrInvalid)
		}
		_, supported := a.Listen("tcp", ":80", socket.DeferAccept(time.Second))
		require.ErrorIs(t, supported, errors.ErrUnsupported)
	})
}

// contract: V1
func TestStream_Backlog(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		l, err := a.Listen("tcp", ":80", socket.Backlog(1))
		require.NoError(t, err)
		first, err := b.Dial("tcp", "a:80")
		require.NoError(t, err)
		w.Settle()
		second, err := b.Dial("tcp", "a:80")
		require.NoError(t, err)
		w.Settle()
		require.NoError(t, first.ConnectError())
		require.Equal(t, socket.ErrWouldBlock, second.ConnectError())
		_, err = l.Accept()
		require.NoError(t, err)
		w.Sleep(1100 * time.Millisecond)
		require.NoError(t, second.ConnectError(), "it is tried again after a second")
	})
}

// contract: V4
func TestHost_LimitDescriptors(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		a.LimitDescriptors(2)
		l, err := a.Listen("tcp", ":80")
		require.NoError(t, err)
		for range 2 {
			_, err = b.Dial("tcp", "a:80")
			require.NoError(t, err)
		}
		w.Settle()
		c, err := l.Accept()
		require.NoError(t, err)
		_, err = l.Accept()
		require.ErrorIs(t, err, syscall.EMFILE)
		_, err = a.Dial("tcp", "b:80")
		require.ErrorIs(t, err, syscall.EMFILE)
		_, err = a.ListenPacket("udp", ":0")
		require.ErrorIs(t, err, syscall.EMFILE)
		require.NoError(t, c.Close())
		_, err = l.Accept()
		require.NoError(t, err, "the connection has waited")
	})
}

// contract: V1
func TestHost_Addresses(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		l, err := a.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NotZero(t, l.Addr())
		_, err = a.Listen("tcp", l.Addr().String())
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		_, err = a.Listen("tcp", "b:80")
		require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
		for _, bad := range []string{"nobody:80", "a", "[::1]:80"} {
			_, err = a.Dial("tcp", bad)
			require.Error(t, err, bad)
		}
		_, err = a.Listen("unix", "/tmp/x")
		require.ErrorIs(t, err, errors.ErrUnsupported)
		_, err = a.Listen("tcp", ":80", socket.ReusePort())
		require.ErrorIs(t, err, errors.ErrUnsupported)
		c, err := b.Dial("tcp", "a:80", socket.LocalAddr(":1000"))
		require.NoError(t, err)
		require.Equal(t, "10.0.0.2:1000", c.LocalAddr().String())
		_, err = c.File()
		require.ErrorIs(t, err, errors.ErrUnsupported)
	})
}

// contract: V1
func TestDatagrams(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		server, err := a.ListenPacket("udp", ":53")
		require.NoError(t, err)
		client, err := b.DialPacket("udp", "a:53")
		require.NoError(t, err)
		_, err = client.Write([]byte("query"))
		require.NoError(t, err)
		w.Settle()
		buf := make([]byte, 3)
		n, from, err := server.ReadFromAddrPort(buf)
		require.Equal(t, socket.ErrTruncated, err)
		require.Equal(t, "que", string(buf[:n]))
		require.Equal(t, netip.MustParseAddrPort("10.0.0.2:32768"), from)
		_, _, err = server.ReadFromAddrPort(buf)
		require.Equal(t, socket.ErrWouldBlock, err)
		_, err = server.WriteToAddrPort(nil, from)
		require.NoError(t, err)
		w.Settle()
		n, err = client.Read(buf)
		require.NoError(t, err)
		require.Zero(t, n)

		ms := []socket.Message{{Data: []byte("one"), Addr: from}, {Data: []byte("two"), Addr: from}}
		n, err = server.WriteBatch(ms)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		w.Settle()
		got := []socket.Message{{Data: make([]byte, 9)}, {Data: make([]byte, 9)}, {Data: make([]byte, 9)}}
		n, err = client.ReadBatch(got)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.Equal(t, "two", string(got[1].Data[:got[1].N]))

		require.NoError(t, server.Close())
		_, err = client.Write([]byte("nobody"))
		require.NoError(t, err)
		w.Settle()
		_, err = client.Read(buf)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		_, err = client.Write(make([]byte, 65508))
		require.ErrorIs(t, err, syscall.EMSGSIZE)
	})
}

// contract: V3
func TestDatagrams_LostTwiceAndOutOfOrder(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		server, err := a.ListenPacket("udp", ":53")
		require.NoError(t, err)
		client, err := b.DialPacket("udp", "a:53")
		require.NoError(t, err)
		w.Faults(sim.Loss(0.2), sim.Duplicates(0.2), sim.Reordering(0.2), sim.Latency(0, time.Millisecond))
		seen := make(map[byte]int)
		disorder, last := 0, byte(0)
		for i := range 200 {
			_, err := client.Write([]byte{byte(i)})
			require.NoError(t, err)
		}
		w.Sleep(time.Second)
		for {
			var b [1]byte
			_, err := server.Read(b[:])
			if err == socket.ErrWouldBlock {
				break
			}
			require.NoError(t, err)
			seen[b[0]]++
			if b[0] < last {
				disorder++
			}
			last = b[0]
		}
		twice := 0
		for _, n := range seen {
			if n > 1 {
				twice++
			}
		}
		require.Less(t, len(seen), 190)
		require.Greater(t, len(seen), 120)
		require.Greater(t, twice, 10)
		require.Greater(t, disorder, 10)
	})
}

// contract: V4
func TestWorld_PartitionAndHeal(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		_, server, client := connect(t, w, a, b)
		w.Partition(a, b)
		_, err := client.Write([]byte("later"))
		require.NoError(t, err)
		w.Sleep(5 * time.Minute)
		buf := make([]byte, 10)
		_, err = server.Read(buf)
		require.Equal(t, socket.ErrWouldBlock, err)
		w.Heal()
		w.Settle()
		n, err := server.Read(buf)
		require.NoError(t, err)
		require.Equal(t, "later", string(buf[:n]))

		w.Partition(a, b)
		late, err := b.Dial("tcp", "a:80")
		require.NoError(t, err)
		w.Sleep(70 * time.Second) // it is repeated after 63 s, and then after 127 s
		require.Equal(t, socket.ErrWouldBlock, late.ConnectError())
		w.Heal()
		w.Settle()
		require.NoError(t, late.ConnectError())

		w.Partition(a, b)
		_, err = client.Write([]byte("never"))
		require.NoError(t, err)
		w.Sleep(16 * time.Minute)
		_, err = client.Read(buf)
		require.ErrorIs(t, err, syscall.ETIMEDOUT)
		_, err = server.Read(buf)
		require.Equal(t, socket.ErrWouldBlock, err, "nobody tells the other side")
	})
}

// contract: V4
func TestHost_CrashAndRestart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		l, server, client := connect(t, w, a, b)
		p, err := epore.NewWith(a.Backend())
		require.NoError(t, err)
		require.NoError(t, p.Registry().Register(server, 1, epore.Readable))
		ended := make(chan error, 1)
		go func() { ended <- p.Poll(epore.NewEvents(1), epore.Forever) }()
		w.Settle()
		a.Crash()
		require.ErrorIs(t, <-ended, sim.ErrCrashed)
		_, err = server.Read(make([]byte, 1))
		require.ErrorIs(t, err, sim.ErrCrashed)
		_, err = l.Accept()
		require.ErrorIs(t, err, sim.ErrCrashed)
		_, err = a.Listen("tcp", ":81")
		require.ErrorIs(t, err, sim.ErrCrashed)
		require.NoError(t, server.Close())
		require.NoError(t, l.Close())
		require.NoError(t, p.Close())

		_, err = client.Write([]byte("hello?"))
		require.NoError(t, err)
		w.Sleep(10 * time.Second)
		_, err = client.Read(make([]byte, 1))
		require.Equal(t, socket.ErrWouldBlock, err)
		a.Restart()
		w.Sleep(10 * time.Second)
		_, err = client.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.NoError(t, client.Close())
		_, _, _ = connect(t, w, a, b)
	})
}

// A peer that waits for room hears of the crash, too, although it sends nothing.
//
// contract: V4
func TestHost_CrashWithFullWindow(t *testing.T) {
	for _, restart := range []bool{true, false} {
		inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
			_, _, client := connect(t, w, a, b)
			n, err := client.Write(make([]byte, 1<<20))
			require.Equal(t, socket.ErrWouldBlock, err)
			require.Equal(t, 64<<10, n)
			w.Sleep(time.Second)
			a.Crash()
			w.Sleep(time.Minute)
			_, err = client.Write([]byte("x"))
			require.Equal(t, socket.ErrWouldBlock, err)
			want := error(syscall.ETIMEDOUT)
			if restart {
				a.Restart()
				want = syscall.ECONNRESET
			}
			w.Sleep(20 * time.Minute)
			_, err = client.Write([]byte("x"))
			require.ErrorIs(t, err, want)
		})
	}
}

// contract: V4
func TestHost_Kill(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		_, server, client := connect(t, w, a, b)
		_, err := server.Write([]byte("last words"))
		require.NoError(t, err)
		a.Kill()
		w.Settle()
		buf := make([]byte, 20)
		n, err := client.Read(buf)
		require.NoError(t, err)
		require.Equal(t, "last words", string(buf[:n]))
		_, err = client.Read(buf)
		require.Equal(t, io.EOF, err)
		again, err := b.Dial("tcp", "a:80")
		require.NoError(t, err)
		w.Settle()
		require.ErrorIs(t, again.ConnectError(), syscall.ECONNREFUSED)
		require.NoError(t, client.Close())
		_, _, _ = connect(t, w, a, b)
	})
}

// What a killed program still does to its sockets does not concern the next program.
//
// contract: V4
func TestHost_KillLeavesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		l, server, _ := connect(t, w, a, b)
		require.Equal(t, 2, a.OpenSockets())
		a.Kill()
		require.Zero(t, a.OpenSockets())
		_, err := l.Accept()
		require.ErrorIs(t, err, sim.ErrCrashed)
		_, err = server.Write([]byte("x"))
		require.ErrorIs(t, err, sim.ErrCrashed)
		_, _, _ = connect(t, w, a, b)
		require.Equal(t, 2, a.OpenSockets())
		require.NoError(t, l.Close())
		require.NoError(t, server.Close())
		require.Equal(t, 2, a.OpenSockets())
		again, err := b.Dial("tcp", "a:80")
		require.NoError(t, err)
		w.Settle()
		require.NoError(t, again.ConnectError(), "the new program listens")
	})
}

// contract: V3
func TestWorld_Rule(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		_, server, client := connect(t, w, a, b)
		dropped := 0
		w.Rule(func(p *sim.Packet) sim.Verdict {
			if p.Kind == sim.Data && p.From == b && strings.Contains(string(p.Data), "bad") && dropped < 3 {
				dropped++
				return sim.Drop
			}
			if strings.Contains(string(p.Data), "worst") {
				return sim.Sever
			}
			return sim.Deliver
		})
		_, err := client.Write([]byte("bad"))
		require.NoError(t, err)
		_, err = client.Write([]byte("good"))
		require.NoError(t, err)
		w.Settle()
		buf := make([]byte, 20)
		_, err = server.Read(buf)
		require.Equal(t, socket.ErrWouldBlock, err, "what follows waits, too")
		w.Sleep(2 * time.Second)
		require.Equal(t, 3, dropped)
		n, err := server.Read(buf)
		require.NoError(t, err)
		require.Equal(t, "badgood", string(buf[:n]))
		_, err = client.Write([]byte("worst"))
		require.NoError(t, err)
		w.Settle()
		for _, c := range []*socket.Conn{client, server} {
			_, err = c.Read(buf)
			require.ErrorIs(t, err, syscall.ECONNRESET)
		}
	})
}

// A simulated socket and a real queue refuse each other.
//
// contract: V1
func TestHost_RealQueueRefuses(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		_, server, _ := connect(t, w, a, b)
		p, err := epore.New()
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		require.NoError(t, err)
		defer p.Close()
		require.Error(t, p.Registry().Register(server, 1, epore.Readable))

		q, err := epore.NewWith(a.Backend())
		require.NoError(t, err)
		require.ErrorIs(t, q.Registry().Register(epore.FD(0), 1, epore.Readable), epore.ErrNotPollable)
	})
}
