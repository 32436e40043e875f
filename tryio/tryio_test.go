//go:build unix || windows

package tryio_test

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
	"github.com/epore/epore/tryio"
)

const rule = "tryio: the available data, or ErrWouldBlock, and never a wait"

func guard(t *testing.T) { t.Cleanup(backendtest.Watchdog(t, rule)) }

var past = time.Unix(1, 0)

// netPair is a connection of package net.
func netPair(t testing.TB, network, address string) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("no such sockets here: %v", err)
	}
	defer l.Close()
	a, err = net.Dial(network, l.Addr().String())
	require.NoError(t, err)
	b, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// streams are pairs of sources of every kind that the system has.
var streams = []struct {
	name string
	make func(t testing.TB) (a, b syscall.Conn)
}{
	{"*net.TCPConn", func(t testing.TB) (_, _ syscall.Conn) {
		a, b := netPair(t, "tcp", "127.0.0.1:0")
		return a.(syscall.Conn), b.(syscall.Conn)
	}},
	{"*net.UnixConn", func(t testing.TB) (_, _ syscall.Conn) {
		dir, err := os.MkdirTemp("", "t")
		require.NoError(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		a, b := netPair(t, "unix", dir+"/s")
		return a.(syscall.Conn), b.(syscall.Conn)
	}},
	{"*socket.Conn", func(t testing.TB) (_, _ syscall.Conn) {
		a, b, err := socket.Pair()
		require.NoError(t, err)
		t.Cleanup(func() { _, _ = a.Close(), b.Close() })
		return a, b
	}},
	{"epore.FD", func(t testing.TB) (_, _ syscall.Conn) {
		a, b := fixture.Pair(t)
		return epore.FD(a.FD), epore.FD(b.FD)
	}},
}

func eachStream(t *testing.T, run func(t *testing.T, a, b syscall.Conn)) {
	for _, s := range streams {
		t.Run(s.name, func(t *testing.T) {
			guard(t)
			a, b := s.make(t)
			run(t, a, b)
		})
	}
}

// number is the descriptor of a source.
func number(t testing.TB, c syscall.Conn) (fd int) {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(n uintptr) { fd = int(n) }))
	return fd
}

// readWhole reads n bytes.
func readWhole(t testing.TB, c syscall.Conn, n int) []byte {
	t.Helper()
	buf := make([]byte, n)
	for got := 0; got < n; {
		m, err := tryio.Read(c, buf[got:])
		if err == tryio.ErrWouldBlock {
			fixture.AwaitReadable(t, number(t, c))
			continue
		}
		require.NoError(t, err)
		got += m
	}
	return buf
}

// contract: N18
func TestReadAndWrite(t *testing.T) {
	eachStream(t, func(t *testing.T, a, b syscall.Conn) {
		buf := make([]byte, 16)
		n, err := tryio.Read(a, buf)
		require.True(t, err == tryio.ErrWouldBlock, "%v", err)
		require.Zero(t, n)
		for _, p := range [][]byte{nil, {}} {
			n, err = tryio.Read(a, p)
			require.NoError(t, err)
			require.Zero(t, n)
			n, err = tryio.Write(a, p)
			require.NoError(t, err)
			require.Zero(t, n)
		}
		n, err = tryio.Write(b, []byte("hello"))
		require.NoError(t, err)
		require.Equal(t, 5, n)
		require.Equal(t, "hello", string(readWhole(t, a, 5)))
		_, err = tryio.Read(a, buf)
		require.Equal(t, tryio.ErrWouldBlock, err)
	})
}

// What Write says that it has written arrives, and no more.
// contract: N18
func TestWrite_UntilWouldBlock(t *testing.T) {
	eachStream(t, func(t *testing.T, a, b syscall.Conn) {
		data := make([]byte, 16<<20)
		for i := range data {
			data[i] = byte(i >> 3)
		}
		sent, received := 0, 0
		buf := make([]byte, 1<<20)
		blocked := 0
		for received < len(data)/16 {
			n, err := tryio.Write(b, data[sent:])
			sent += n
			if err != nil {
				require.Equal(t, tryio.ErrWouldBlock, err)
				blocked++
			}
			n, err = tryio.Read(a, buf)
			if err == tryio.ErrWouldBlock {
				require.Less(t, received, sent)
				fixture.AwaitReadable(t, number(t, a))
				continue
			}
			require.NoError(t, err)
			require.Equal(t, data[received:received+n], buf[:n])
			received += n
		}
		require.NotZero(t, blocked)
		require.Equal(t, data[received:sent], readWhole(t, a, sent-received))
		_, err := tryio.Read(a, buf)
		require.Equal(t, tryio.ErrWouldBlock, err)
	})
}

// contract: N18
func TestRead_AtTheEnd(t *testing.T) {
	eachStream(t, func(t *testing.T, a, b syscall.Conn) {
		fd, ok := b.(interface{ String() string })
		if ok {
			t.Skip("the fixture closes it: ", fd)
		}
		_, err := tryio.Write(b, []byte("last"))
		require.NoError(t, err)
		require.NoError(t, b.(io.Closer).Close())
		require.Equal(t, "last", string(readWhole(t, a, 4)))
		fixture.AwaitReadable(t, number(t, a))
		for range 2 {
			_, err = tryio.Read(a, make([]byte, 8))
			require.Equal(t, io.EOF, err)
		}
		for err = nil; err == nil; {
			_, err = tryio.Write(a, make([]byte, 1<<10))
		}
		require.NotEqual(t, tryio.ErrWouldBlock, err, "the peer is gone")
	})
}

// A deadline that has passed, and a Read that waits, are nothing to a try.
// contract: N18
func TestRead_PassesOverDeadlinesAndReaders(t *testing.T) {
	guard(t)
	a, b := netPair(t, "tcp", "127.0.0.1:0")
	src := a.(syscall.Conn)
	require.NoError(t, a.SetDeadline(past))
	_, err := tryio.Read(src, make([]byte, 1))
	require.Equal(t, tryio.ErrWouldBlock, err)
	_, err = tryio.Write(src, []byte("x"))
	require.NoError(t, err)

	require.NoError(t, a.SetDeadline(time.Time{}))
	done := make(chan error)
	go func() { // it has the lock of the runtime's poller for reading
		_, err := a.Read(make([]byte, 1))
		done <- err
	}()
	for range 1000 {
		_, err = tryio.Read(src, make([]byte, 1))
		require.Equal(t, tryio.ErrWouldBlock, err)
		runtime.Gosched()
	}
	_, err = b.Write([]byte("x"))
	require.NoError(t, err)
	require.NoError(t, <-done)
}

// contract: N18
func TestDatagrams(t *testing.T) {
	guard(t)
	a, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer a.Close()
	b, err := net.DialUDP("udp", nil, a.LocalAddr().(*net.UDPAddr))
	require.NoError(t, err)
	defer b.Close()
	buf := make([]byte, 4)
	_, err = tryio.Read(a, buf)
	require.Equal(t, tryio.ErrWouldBlock, err)
	for _, s := range []string{"four", "", "five5", ""} {
		n, err := tryio.Write(b, []byte(s))
		require.NoError(t, err)
		require.Equal(t, len(s), n)
		fixture.AwaitReadable(t, number(t, a))
		n, err = tryio.Read(a, buf)
		if len(s) > len(buf) {
			require.Equal(t, socket.ErrTruncated, err)
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, s[:min(len(s), len(buf))], string(buf[:n]))
	}
	_, err = tryio.Read(a, nil)
	require.Equal(t, tryio.ErrWouldBlock, err, "an empty read takes a datagram")
}

// contract: N18
func TestAccept(t *testing.T) {
	dir, err := os.MkdirTemp("", "t")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	for _, n := range [][2]string{{"tcp", "127.0.0.1:0"}, {"unix", dir + "/s"}} {
		t.Run(n[0], func(t *testing.T) {
			guard(t)
			l, err := net.Listen(n[0], n[1])
			if err != nil {
				t.Skipf("no such sockets here: %v", err)
			}
			defer l.Close()
			if l, ok := l.(interface{ SetDeadline(time.Time) error }); ok {
				require.NoError(t, l.SetDeadline(past))
			}
			src := l.(syscall.Conn)
			for range 3 {
				_, err = tryio.Accept(src)
				require.Equal(t, tryio.ErrWouldBlock, err)
				d, err := net.Dial(n[0], l.Addr().String())
				require.NoError(t, err)
				defer d.Close()
				fixture.AwaitReadable(t, number(t, src))
				c, err := tryio.Accept(src)
				require.NoError(t, err)
				defer c.Close()
				require.NoError(t, c.ConnectError())
				_, err = d.Write([]byte("x"))
				require.NoError(t, err)
				require.Equal(t, "x", string(readWhole(t, c, 1)))
			}
			own, err := socket.Listen(n[0], map[string]string{"tcp": "127.0.0.1:0", "unix": dir + "/own"}[n[0]])
			require.NoError(t, err)
			defer own.Close()
			_, err = tryio.Accept(own)
			require.Equal(t, tryio.ErrWouldBlock, err)
		})
	}
}

// One event, any number of tries: the loop never waits. (M9: an event may be spurious.)
// contract: N18
func TestReadInALoop(t *testing.T) {
	guard(t)
	a, b := netPair(t, "tcp", "127.0.0.1:0")
	src := a.(syscall.Conn)
	p, err := epore.New()
	require.NoError(t, err)
	defer p.Close()
	require.NoError(t, p.Registry().Register(src, 1, epore.Readable))
	defer func() { require.NoError(t, p.Registry().Deregister(src)) }()
	events := epore.NewEvents(8)
	for range 10 {
		_, err = b.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, p.Poll(events, fixture.Soon))
		for ev := range events.All() {
			require.True(t, ev.Readable())
			n, err := tryio.Read(src, make([]byte, 8))
			require.NoError(t, err)
			require.Equal(t, 1, n)
			_, err = tryio.Read(src, make([]byte, 8))
			require.Equal(t, tryio.ErrWouldBlock, err)
		}
	}
}

// contract: N18
func TestErrors(t *testing.T) {
	guard(t)
	buf := make([]byte, 1)
	for _, src := range []syscall.Conn{nil, (*net.TCPConn)(nil), (*socket.Conn)(nil), (*os.File)(nil)} {
		_, err := tryio.Read(src, buf)
		require.ErrorIs(t, err, fs.ErrInvalid)
		_, err = tryio.Write(src, buf)
		require.ErrorIs(t, err, fs.ErrInvalid)
		_, err = tryio.Accept(src)
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
	_, err := tryio.Accept((*socket.Listener)(nil))
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = tryio.Read(new(net.TCPConn), buf)
	require.Error(t, err)
	a, b := netPair(t, "tcp", "127.0.0.1:0")
	require.NoError(t, a.Close())
	for _, src := range []syscall.Conn{a.(syscall.Conn), new(socket.Conn)} {
		_, err = tryio.Read(src, buf)
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = tryio.Write(src, buf)
		require.ErrorIs(t, err, net.ErrClosed)
	}
	_, err = tryio.Accept(b.(syscall.Conn))
	require.Error(t, err)
	require.NotEqual(t, tryio.ErrWouldBlock, err)
	require.Contains(t, err.Error(), b.LocalAddr().String())
	if runtime.GOOS == "windows" {
		f, err := os.Create(t.TempDir() + "/f")
		require.NoError(t, err)
		_, err = tryio.Read(f, buf)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.NoError(t, f.Close())
	}
}
