//go:build unix || windows

package socket_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
)

// contract: N1
func TestAccept_UntilWouldBlock(t *testing.T) {
	eachQueue(t, "N1: one event, any number of connections, and then ErrWouldBlock", func(t *testing.T, p *epore.Poll) {
		for _, mode := range modes(p) {
			for network, address := range streams(t) {
				l := listen(t, network, address)
				_, err := l.Accept()
				require.True(t, err == socket.ErrWouldBlock, "%v", err)
				require.NoError(t, p.Registry().Register(l, 1, epore.Readable|mode))
				for round := 1; round <= 3; round++ {
					var clients []*socket.Conn
					for range 5 {
						c := dial(t, network, l.Addr().String())
						awaitWritable(t, c)
						require.NoError(t, c.ConnectError())
						clients = append(clients, c)
					}
					accepted := 0
					for accepted < len(clients) {
						await(t, p, 1, epore.Event.Readable)
						for {
							c, err := l.Accept()
							if err == socket.ErrWouldBlock {
								break
							}
							require.NoError(t, err)
							accepted++
							require.NoError(t, c.Close())
						}
					}
					require.Equal(t, len(clients), accepted)
					for _, c := range clients {
						require.NoError(t, c.Close())
					}
				}
				require.NoError(t, l.Close())
				_, err = l.Accept()
				require.ErrorIs(t, err, net.ErrClosed)
				require.Nil(t, l.Addr())
			}
		}
	})
}

// The process really runs out of descriptors.
// contract: N7
func TestAccept_OutOfDescriptors(t *testing.T) {
	eachQueue(t, "E4, N7: EMFILE leaves the listener usable, and loses no connection", func(t *testing.T, p *epore.Poll) {
		for _, mode := range modes(p) {
			l := listen(t, "tcp", "127.0.0.1:0")
			require.NoError(t, p.Registry().Register(l, 1, epore.Readable|mode))
			a := dial(t, "tcp", l.Addr().String())
			b := dial(t, "tcp", l.Addr().String())
			await(t, p, 1, epore.Event.Readable)
			awaitWritable(t, a)
			awaitWritable(t, b)

			restore := fixture.LowerDescriptorLimit(t)
			for range 3 {
				_, err := l.Accept()
				require.ErrorIs(t, err, syscall.EMFILE)
				require.NotErrorIs(t, err, socket.ErrWouldBlock)
			}
			_, err := socket.Dial("tcp", l.Addr().String())
			require.ErrorIs(t, err, syscall.EMFILE)
			_, _, err = socket.Pair()
			require.ErrorIs(t, err, syscall.EMFILE)

			// As documented: deregister until a descriptor is free again.
			require.NoError(t, p.Registry().Deregister(l))
			events := epore.NewEvents(4)
			require.NoError(t, p.Poll(events, 0))
			require.Zero(t, events.Len())
			restore()
			require.NoError(t, p.Registry().Register(l, 2, epore.Readable|mode))
			await(t, p, 2, epore.Event.Readable)
			for _, client := range []*socket.Conn{a, b} {
				c := accept(t, l)
				write(t, c, "welcome")
				require.Equal(t, "welcome", read(t, client, 16))
				require.NoError(t, c.Close())
				require.NoError(t, client.Close())
			}
			require.NoError(t, l.Close())
		}
	})
}

// contract: N5
func TestAddresses_AsInPackageNet(t *testing.T) {
	guard(t, "N5: addresses are those of package net with literal IPs")
	for _, c := range []struct{ network, address, refused string }{
		{"tcp", "127.0.0.1:0", ""},
		{"tcp", "127.0.0.1:", ""},
		{"tcp4", "127.0.0.1:0", ""},
		{"tcp", "[::ffff:127.0.0.1]:0", ""},
		{"tcp", ":0", ""},
		{"tcp", "", ""},
		{"tcp4", ":0", ""},
		{"tcp", "0.0.0.0:0", ""},
		{"udp", "127.0.0.1:0", ""},
		{"udp4", ":0", ""},
		{"tcp6", "[::1]:0", ""},
		{"tcp6", ":0", ""},
		{"tcp6", "[::1%lo]:0", ""},
		{"udp6", "[::1]:0", ""},
		{"tcp", "localhost:0", "resolve it first"},
		{"tcp", "example.com:80", "resolve it first"},
		{"tcp", "127.0.0.1:http", "not a number"},
		{"tcp", "127.0.0.1:65536", "not a number"},
		{"tcp", "127.0.0.1", "missing port"},
		{"tcp", "::1:80", "too many colons"},
		{"tcp4", "[::1]:0", "IPv6"},
		{"tcp6", "127.0.0.1:0", "IPv4"},
		{"tcp5", "127.0.0.1:0", "unknown network"},
		{"ip", "127.0.0.1", "unknown network"},
		{"", "127.0.0.1:0", "unknown network"},
		{"unix", "/" + strings.Repeat("x", 200), "invalid argument"},
		{"unix", "/nowhere/at/all", "no such file"},
	} {
		t.Run(c.network+" "+c.address, func(t *testing.T) {
			var s interface{ Close() error }
			var err error
			if strings.HasPrefix(c.network, "udp") {
				var p *socket.PacketConn
				p, err = socket.ListenPacket(c.network, c.address)
				if err == nil {
					require.Equal(t, "udp", p.LocalAddr().Network())
				}
				s = p
			} else {
				var l *socket.Listener
				l, err = socket.Listen(c.network, c.address)
				if err == nil {
					require.NotZero(t, l.Addr().(*net.TCPAddr).Port)
					d, err := socket.Dial(c.network, l.Addr().String())
					require.NoError(t, err)
					awaitWritable(t, d)
					require.NoError(t, d.ConnectError(), "%v", l.Addr())
					require.NoError(t, d.Close())
				}
				s = l
			}
			if c.refused != "" {
				var op *net.OpError
				require.ErrorAs(t, err, &op)
				need(t, c.network)
				require.ErrorContains(t, err, c.refused)
				return
			}
			if err != nil {
				need(t, c.network)
			}
			require.NoError(t, err)
			require.NoError(t, s.Close())
		})
	}
	_, err := socket.Dial("udp", "127.0.0.1:1")
	require.ErrorContains(t, err, "DialPacket")
	_, err = socket.Listen("udp", "127.0.0.1:1")
	require.ErrorContains(t, err, "ListenPacket")
	_, err = socket.ListenPacket("tcp", "127.0.0.1:1")
	require.ErrorContains(t, err, "use Listen")
}

// Listening on all addresses means both IPv4 and IPv6, as in package net.
// contract: N5
func TestListen_DualStack(t *testing.T) {
	guard(t, "N5: tcp without a host listens for both IPv4 and IPv6; tcp4 and tcp6 for one of them")
	need(t, "tcp6")
	like, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	dual := like.Addr().(*net.TCPAddr).IP.To4() == nil
	require.NoError(t, like.Close())
	for _, c := range []struct {
		network, address string
		v4, v6           bool
	}{{"tcp", ":0", true, dual}, {"tcp", "[::]:0", true, dual}, {"tcp", "0.0.0.0:0", true, dual}, {"tcp4", ":0", true, false}, {"tcp6", ":0", false, true}} {
		l := listen(t, c.network, c.address)
		port := l.Addr().(*net.TCPAddr).Port
		for address, reachable := range map[string]bool{"127.0.0.1": c.v4, "::1": c.v6} {
			d, err := socket.Dial("tcp", net.JoinHostPort(address, fmt.Sprint(port)))
			if err == nil {
				awaitWritable(t, d)
				err = d.ConnectError()
			}
			if !reachable {
				require.ErrorIs(t, err, fixture.Refused, "%v from %s", c, address)
				continue
			}
			require.NoError(t, err, "%v from %s", c, address)
			a := accept(t, l)
			require.Equal(t, address, a.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().String(), "never mapped")
			require.NoError(t, a.Close())
			require.NoError(t, d.Close())
		}
		require.NoError(t, l.Close())
	}
}

// contract: N5
func TestListener_RemovesUnixFile(t *testing.T) {
	guard(t, "N5: Close removes the file of a Unix listener, unless SetUnlinkOnClose(false) was called")
	need(t, "unix")
	path := socketPath(t)
	exists := func() bool { _, err := os.Lstat(path); return err == nil }
	l := listen(t, "unix", path)
	require.Equal(t, &net.UnixAddr{Name: path, Net: "unix"}, l.Addr())
	_, err := socket.Listen("unix", path)
	require.ErrorIs(t, err, fixture.InUse)
	require.True(t, exists(), "a failed Listen removes nothing")
	require.NoError(t, l.Close())
	require.False(t, exists())
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.ErrorIs(t, l.Close(), net.ErrClosed)
	l.SetUnlinkOnClose(true)
	require.ErrorIs(t, l.Close(), net.ErrClosed)
	require.True(t, exists(), "the second Close removes nothing")
	require.NoError(t, os.Remove(path))

	l = listen(t, "unix", path)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	require.True(t, exists())
	_, err = socket.Dial("unix", path)
	require.ErrorIs(t, err, fixture.Refused)
}

// contract: N5
func TestListen_AbstractUnixNames(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("abstract names exist only on Linux")
	}
	guard(t, "N5: on Linux @name is in the abstract namespace, and an empty name lets the system choose one")
	for _, name := range []string{fmt.Sprintf("@epore-%d", os.Getpid()), ""} {
		l := listen(t, "unix", name)
		require.True(t, strings.HasPrefix(l.Addr().String(), "@"), "%v", l.Addr())
		c := dial(t, "unix", l.Addr().String())
		require.NoError(t, c.ConnectError(), "at once")
		write(t, c, "x")
		require.Equal(t, "x", read(t, accept(t, l), 8))
		require.NoError(t, l.Close())
	}
}

// contract: N9
func TestListen_Options(t *testing.T) {
	guard(t, "N9: the options of Listen have the documented effect")
	require.NotNil(t, listen(t, "tcp", "127.0.0.1:0", nil), "a nil option is ignored")

	l := listen(t, "tcp", "127.0.0.1:0")
	_, err := socket.Listen("tcp", l.Addr().String())
	require.ErrorIs(t, err, fixture.InUse)

	one, err := socket.Listen("tcp", "127.0.0.1:0", socket.ReusePort())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Logf("ReusePort is not supported: %v", err)
	} else {
		require.NoError(t, err)
		closeLater(t, one)
		listen(t, "tcp", one.Addr().String(), socket.ReusePort())
		u, err := socket.ListenPacket("udp", "127.0.0.1:0", socket.ReusePort())
		require.NoError(t, err)
		closeLater(t, u)
		u, err = socket.ListenPacket("udp", u.LocalAddr().String(), socket.ReusePort())
		require.NoError(t, err)
		closeLater(t, u)
	}
	_, err = socket.ListenPacket("udp", "127.0.0.1:0", socket.DeferAccept(time.Second))
	require.Error(t, err)
}

// contract: N9
func TestListen_DeferAccept(t *testing.T) {
	guard(t, "N9: with DeferAccept a connection can be accepted when its data has arrived")
	l, err := socket.Listen("tcp", "127.0.0.1:0", socket.DeferAccept(30*time.Second))
	if errors.Is(err, errors.ErrUnsupported) || runtime.GOOS == "freebsd" && err != nil {
		t.Skipf("DeferAccept is not supported: %v", err)
	}
	require.NoError(t, err)
	closeLater(t, l)
	c := dial(t, "tcp", l.Addr().String())
	awaitWritable(t, c)
	require.NoError(t, c.ConnectError())
	_, err = l.Accept()
	require.Equal(t, socket.ErrWouldBlock, err)
	write(t, c, "x")
	a := accept(t, l)
	require.Equal(t, "x", read(t, a, 8))
}

// contract: N9
func TestListen_Backlog(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the meaning of a backlog of 1 differs between systems")
	}
	guard(t, "N9: Backlog limits how many connections wait")
	path := socketPath(t)
	l := listen(t, "unix", path, socket.Backlog(1))
	full := 0
	for full < 10 {
		c, err := socket.Dial("unix", path)
		if err != nil {
			require.ErrorIs(t, err, syscall.EAGAIN, "a full Unix backlog fails at once")
			break
		}
		closeLater(t, c)
		full++
	}
	require.Equal(t, 2, full)
	accept(t, l)
	dial(t, "unix", path)
}

// contract: N9
func TestOptions_NoDelayIsTheDefault(t *testing.T) {
	guard(t, "N9: dialled and accepted TCP Conns begin with no-delay")
	for _, network := range []string{"tcp4", "tcp6"} {
		if network == "tcp6" && !hasIPv6() {
			continue
		}
		a, b := connected(t, network, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network])
		for _, c := range []*socket.Conn{a, b} {
			require.NotZero(t, option(t, c, syscall.IPPROTO_TCP, syscall.TCP_NODELAY))
			require.NoError(t, c.SetNoDelay(false))
			require.Zero(t, option(t, c, syscall.IPPROTO_TCP, syscall.TCP_NODELAY))
		}
	}
}

// option returns the value of a numeric option.
func option(t testing.TB, s syscall.Conn, level, name int) int {
	t.Helper()
	return fixture.Option(t, descriptor(t, s), level, name)
}

// contract: N9
func TestOptions_Set(t *testing.T) {
	guard(t, "N9: options are those of the system")
	a, _ := connected(t, "tcp4", "127.0.0.1:0")
	require.Zero(t, option(t, a, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE))
	require.NoError(t, a.SetKeepAlive(true))
	require.NotZero(t, option(t, a, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE))
	require.NoError(t, a.SetKeepAliveConfig(net.KeepAliveConfig{Enable: false, Idle: time.Hour}))
	require.Zero(t, option(t, a, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE))
	require.NoError(t, a.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}))
	require.NotZero(t, option(t, a, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE))

	before := option(t, a, syscall.SOL_SOCKET, syscall.SO_RCVBUF)
	require.NoError(t, a.SetReadBuffer(20_000))
	require.NotEqual(t, before, option(t, a, syscall.SOL_SOCKET, syscall.SO_RCVBUF))
	require.GreaterOrEqual(t, option(t, a, syscall.SOL_SOCKET, syscall.SO_RCVBUF), 20_000)
	require.NoError(t, a.SetWriteBuffer(20_000))
	require.GreaterOrEqual(t, option(t, a, syscall.SOL_SOCKET, syscall.SO_SNDBUF), 20_000)

	if big := int64(1) << 32; int64(int(big)) == big { // not on 32 bits
		n := int(big) | 20_000
		for _, err := range []error{a.SetReadBuffer(n), a.SetWriteBuffer(n), a.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: int(big) | 5})} {
			require.ErrorIs(t, err, os.ErrInvalid, "not its lower half")
		}
	}

	need(t, "unix")
	u, _ := connected(t, "unix", socketPath(t))
	for _, err := range []error{u.SetNoDelay(true), u.SetKeepAlive(true), u.SetLinger(0), u.SetKeepAliveConfig(net.KeepAliveConfig{})} {
		require.ErrorIs(t, err, os.ErrInvalid, "only for TCP")
	}
}
