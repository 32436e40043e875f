//go:build unix || windows

package socket_test

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
)

// eachQueue runs a test on every queue of this system, with both strategies.
func eachQueue(t *testing.T, rule string, run func(t *testing.T, p *epore.Poll)) {
	for _, name := range queueNames {
		for _, s := range []epore.Strategy{epore.Park, epore.Block} {
			t.Run(name+", "+s.String(), func(t *testing.T) {
				guard(t, rule)
				// The requests of an io_uring belong to the thread that made them.
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				p, err := epore.NewWith(queues[name](), epore.WithStrategy(s))
				if errors.Is(err, errors.ErrUnsupported) {
					t.Skipf("queue not supported: %v", err)
				}
				require.NoError(t, err)
				defer func() { require.NoError(t, p.Close()) }()
				run(t, p)
			})
		}
	}
}

// guard ends a test that hangs, and prints the rule if the test fails.
func guard(t *testing.T, rule string) {
	stop := backendtest.Watchdog(t, rule)
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("broken rule: %s", rule)
		}
	})
}

// modes returns the modes that p supports for the sockets of this package, which include
// emulated edges.
func modes(p *epore.Poll) []epore.Interest {
	if p.Capabilities().Interests.Has(epore.Edge) || p.Backend() == "iocp" {
		return []epore.Interest{0, epore.Edge}
	}
	return []epore.Interest{0}
}

// next polls until there are events and returns them.
func next(t testing.TB, p *epore.Poll) (list []epore.Event) {
	t.Helper()
	events := epore.NewEvents(64)
	require.NoError(t, p.Poll(events, fixture.Soon))
	require.NotZero(t, events.Len(), "no event arrived")
	for ev := range events.All() {
		list = append(list, ev)
	}
	return list
}

// await polls until it gets an event of token that satisfies is.
func await(t testing.TB, p *epore.Poll, token epore.Token, is func(epore.Event) bool) {
	t.Helper()
	for {
		for _, ev := range next(t, p) {
			if ev.Token == token && is(ev) {
				return
			}
		}
	}
}

// link makes two connected sockets.
type link struct {
	name string
	make func(t testing.TB) (a, b *socket.Conn)
}

var links = []link{
	{"pair", pair},
	{"tcp4", func(t testing.TB) (a, b *socket.Conn) { return connected(t, "tcp4", "127.0.0.1:0") }},
	{"tcp6", func(t testing.TB) (a, b *socket.Conn) { return connected(t, "tcp6", "[::1]:0") }},
	{"unix", func(t testing.TB) (a, b *socket.Conn) { return connected(t, "unix", socketPath(t)) }},
}

// linksHere yields the links that the system supports, for a test without subtests.
func linksHere(t testing.TB) iter.Seq[link] {
	return func(yield func(link) bool) {
		for _, l := range links {
			if why := lacks(l.name); why != "" {
				t.Log(why)
				continue
			}
			t.Log(l.name)
			if !yield(l) {
				return
			}
		}
	}
}

// streams yields the stream networks that the system supports, with addresses to listen on.
func streams(t testing.TB) iter.Seq2[string, string] {
	return func(yield func(network, address string) bool) {
		for _, s := range [][2]string{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}, {"unix", socketPath(t)}} {
			if lacks(s[0]) == "" && !yield(strings.TrimRight(s[0], "46"), s[1]) {
				return
			}
		}
	}
}

var hasIPv6 = sync.OnceValue(func() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	return err == nil && l.Close() == nil
})

// hasUnix reports whether Unix sockets work: Windows has them since Windows 10, Wine does not.
var hasUnix = sync.OnceValue(func() bool {
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", dir+"/s")
	return err == nil && l.Close() == nil
})

// lacks returns the reason why the system does not support a network, or "".
func lacks(network string) string {
	switch {
	case strings.HasSuffix(network, "6") && !hasIPv6():
		return "no IPv6 on this system"
	case network == "unix" && !hasUnix():
		return "no Unix sockets on this system"
	case network == "unixgram" && runtime.GOOS == "windows":
		return "no Unix datagrams on Windows"
	}
	return ""
}

// need skips the test if the system does not support a network.
func need(t testing.TB, network string) {
	t.Helper()
	if why := lacks(network); why != "" {
		t.Skip(why)
	}
}

// eachLink runs a test on stream sockets of every kind.
func eachLink(t *testing.T, rule string, run func(t *testing.T, a, b *socket.Conn)) {
	for _, l := range links {
		t.Run(l.name, func(t *testing.T) {
			guard(t, rule)
			a, b := l.make(t)
			run(t, a, b)
		})
	}
}

func pair(t testing.TB) (a, b *socket.Conn) {
	t.Helper()
	a, b, err := socket.Pair()
	require.NoError(t, err)
	closeLater(t, a, b)
	return a, b
}

// closeLater closes the closers that are still open when the test ends.
func closeLater(t testing.TB, closers ...io.Closer) {
	t.Cleanup(func() {
		for _, c := range closers {
			if err := c.Close(); err != nil {
				require.ErrorIs(t, err, net.ErrClosed)
			}
		}
	})
}

func listen(t testing.TB, network, address string, opts ...socket.Option) *socket.Listener {
	t.Helper()
	need(t, network)
	l, err := socket.Listen(network, address, opts...)
	require.NoError(t, err)
	closeLater(t, l)
	return l
}

func dial(t testing.TB, network, address string) *socket.Conn {
	t.Helper()
	c, err := socket.Dial(network, address)
	require.NoError(t, err)
	closeLater(t, c)
	return c
}

// connected returns the two ends of a connection made through a listener.
func connected(t testing.TB, network, address string) (a, b *socket.Conn) {
	t.Helper()
	l := listen(t, network, address)
	a = dial(t, network, l.Addr().String())
	b = accept(t, l)
	awaitWritable(t, a)
	require.NoError(t, a.ConnectError())
	require.NoError(t, l.Close())
	return a, b
}

func accept(t testing.TB, l *socket.Listener) *socket.Conn {
	t.Helper()
	awaitReadable(t, l)
	c, err := l.Accept()
	require.NoError(t, err)
	closeLater(t, c)
	return c
}

// descriptor returns the descriptor number of a source.
func descriptor(t testing.TB, s syscall.Conn) (number int) {
	t.Helper()
	raw, err := s.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { number = int(fd) }))
	return number
}

// awaitReadable waits, without any queue, until s is readable.
func awaitReadable(t testing.TB, s syscall.Conn) {
	t.Helper()
	fixture.AwaitReadable(t, descriptor(t, s))
}

func awaitWritable(t testing.TB, s syscall.Conn) {
	t.Helper()
	fixture.AwaitWritable(t, descriptor(t, s))
}

// write writes all of s, and waits for room.
func write(t testing.TB, c *socket.Conn, s string) {
	t.Helper()
	for b := []byte(s); len(b) > 0; {
		n, err := c.Write(b)
		b = b[n:]
		if err == socket.ErrWouldBlock {
			awaitWritable(t, c)
			continue
		}
		require.NoError(t, err)
	}
}

// read waits until c is readable, and reads once.
func read(t testing.TB, c *socket.Conn, room int) string {
	t.Helper()
	awaitReadable(t, c)
	buf := make([]byte, room)
	n, err := c.Read(buf)
	require.NoError(t, err)
	return string(buf[:n])
}

// readAll reads until the end of the stream.
func readAll(t testing.TB, c *socket.Conn) string {
	t.Helper()
	var all bytes.Buffer
	for buf := make([]byte, 64<<10); ; {
		n, err := c.Read(buf)
		all.Write(buf[:n])
		switch err {
		case nil:
		case io.EOF:
			require.Zero(t, n)
			return all.String()
		case socket.ErrWouldBlock:
			awaitReadable(t, c)
		default:
			require.NoError(t, err)
		}
	}
}

// random returns n bytes without a pattern.
func random(n int) []byte {
	b := make([]byte, n)
	var seed [32]byte
	seed[0] = byte(n)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// socketPath returns a path for a Unix socket that is short enough for every system.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir + "/s"
}
