//go:build unix || windows

package socket_test

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
)

func listenPacket(t testing.TB, network, address string) *socket.PacketConn {
	t.Helper()
	need(t, network)
	c, err := socket.ListenPacket(network, address)
	require.NoError(t, err)
	closeLater(t, c)
	return c
}

func dialPacket(t testing.TB, network, address string) *socket.PacketConn {
	t.Helper()
	c, err := socket.DialPacket(network, address)
	require.NoError(t, err)
	closeLater(t, c)
	return c
}

func udpAddress(c *socket.PacketConn) netip.AddrPort {
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

var udpNetworks = [][2]string{{"udp4", "127.0.0.1:0"}, {"udp6", "[::1]:0"}, {"udp", "127.0.0.1:0"}}

// contract: N8
func TestPacketConn_Datagrams(t *testing.T) {
	for _, n := range udpNetworks {
		t.Run(n[0], func(t *testing.T) {
			guard(t, "N8: a datagram arrives as it was sent, or not at all")
			a, b := listenPacket(t, n[0], n[1]), listenPacket(t, n[0], n[1])
			buf := make([]byte, 16)
			_, _, err := b.ReadFromAddrPort(buf)
			require.True(t, err == socket.ErrWouldBlock, "%v", err)
			_, err = b.Read(buf)
			require.True(t, err == socket.ErrWouldBlock, "%v", err)

			for _, text := range []string{"one", "", "three", "0123456789abcdef"} {
				n, err := a.WriteToAddrPort([]byte(text), udpAddress(b))
				require.NoError(t, err)
				require.Equal(t, len(text), n)
				awaitReadable(t, b)
				n, from, err := b.ReadFromAddrPort(buf)
				require.NoError(t, err, "an empty datagram is not the end")
				require.Equal(t, text, string(buf[:n]))
				require.Equal(t, udpAddress(a), from)
			}

			n, err := a.WriteTo([]byte("0123456789abcdefX"), b.LocalAddr())
			require.NoError(t, err)
			require.Equal(t, 17, n)
			awaitReadable(t, b)
			n, from, err := b.ReadFrom(buf)
			require.True(t, err == socket.ErrTruncated, "%v", err)
			require.Equal(t, "0123456789abcdef", string(buf[:n]))
			require.Equal(t, a.LocalAddr(), from)

			_, err = a.WriteTo([]byte("x"), b.LocalAddr())
			require.NoError(t, err)
			awaitReadable(t, b)
			n, err = b.Read(nil)
			require.True(t, err == socket.ErrTruncated, "no room in the buffer")
			require.Zero(t, n)
			_, err = b.Read(buf)
			require.Equal(t, socket.ErrWouldBlock, err, "the datagram is lost")

			_, err = a.WriteToAddrPort(make([]byte, 70_000), udpAddress(b))
			require.ErrorIs(t, err, errTooLong)
			_, err = a.Write([]byte("x"))
			require.Error(t, err, "not connected")
			require.Nil(t, a.RemoteAddr())
		})
	}
}

// contract: N8
func TestPacketConn_Connected(t *testing.T) {
	for _, n := range udpNetworks {
		t.Run(n[0], func(t *testing.T) {
			guard(t, "N8: a connected socket sends to one address, and receives only from it")
			b := listenPacket(t, n[0], n[1])
			a := dialPacket(t, n[0], b.LocalAddr().String())
			other := listenPacket(t, n[0], n[1])
			require.Equal(t, b.LocalAddr(), a.RemoteAddr())
			buf := make([]byte, 16)
			for _, text := range []string{"ping", ""} {
				_, err := other.WriteTo([]byte("noise"), a.LocalAddr())
				require.NoError(t, err)
				n, err := a.Write([]byte(text))
				require.NoError(t, err)
				require.Equal(t, len(text), n)
				awaitReadable(t, b)
				n, from, err := b.ReadFromAddrPort(buf)
				require.NoError(t, err)
				require.Equal(t, text, string(buf[:n]))
				_, err = b.WriteToAddrPort([]byte("pong"), from)
				require.NoError(t, err)
				awaitReadable(t, a)
				n, err = a.Read(buf)
				require.NoError(t, err)
				require.Equal(t, "pong", string(buf[:n]))
			}
			_, err := a.WriteTo([]byte("x"), b.LocalAddr())
			require.ErrorIs(t, err, net.ErrWriteToConnected)
			_, err = a.WriteToAddrPort([]byte("x"), udpAddress(b))
			require.ErrorIs(t, err, net.ErrWriteToConnected)
		})
	}
}

// contract: N8
func TestPacketConn_ThroughPoll(t *testing.T) {
	eachQueue(t, "N8: PacketConn is a Source", func(t *testing.T, p *epore.Poll) {
		for _, mode := range modes(p) {
			b := listenPacket(t, "udp", "127.0.0.1:0")
			a := dialPacket(t, "udp", b.LocalAddr().String())
			require.NoError(t, p.Registry().Register(b, 1, epore.Readable|mode))
			for range 5 {
				for range 3 {
					_, err := a.Write([]byte("x"))
					require.NoError(t, err)
				}
				for got := 0; got < 3; {
					await(t, p, 1, epore.Event.Readable)
					for {
						_, err := b.Read(make([]byte, 8))
						if err == socket.ErrWouldBlock {
							break
						}
						require.NoError(t, err)
						got++
					}
				}
			}
			require.NoError(t, b.Close())
		}
	})
}

// A datagram that no socket receives: the system may report it with a later call.
// contract: N8
func TestPacketConn_Refused(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("not every system reports it")
	}
	guard(t, "N8: a later call reports ECONNREFUSED for a datagram to an unused port")
	b := listenPacket(t, "udp4", "127.0.0.1:0")
	a := dialPacket(t, "udp4", b.LocalAddr().String())
	require.NoError(t, b.Close())
	_, err := a.Write([]byte("x"))
	require.NoError(t, err)
	awaitReadable(t, a)
	_, err = a.Read(make([]byte, 8))
	require.ErrorIs(t, err, fixture.Refused)
	_, err = a.Read(make([]byte, 8))
	require.Equal(t, socket.ErrWouldBlock, err)
}

// contract: N8
func TestPacketConn_DualStack(t *testing.T) {
	guard(t, "N8: on a dual-stack socket, IPv4 addresses are not mapped")
	need(t, "udp6")
	b := listenPacket(t, "udp", ":0")
	if b.LocalAddr().(*net.UDPAddr).IP.To4() != nil {
		t.Skip("no dual-stack sockets on this system")
	}
	port := udpAddress(b).Port()
	for _, network := range udpNetworks[:2] {
		a := listenPacket(t, network[0], network[1])
		to := netip.AddrPortFrom(udpAddress(a).Addr(), port)
		_, err := a.WriteToAddrPort([]byte("ping"), to)
		require.NoError(t, err)
		awaitReadable(t, b)
		_, from, err := b.ReadFromAddrPort(make([]byte, 8))
		require.NoError(t, err)
		require.Equal(t, udpAddress(a), from)
		_, err = b.WriteToAddrPort([]byte("pong"), from)
		require.NoError(t, err)
		awaitReadable(t, a)
	}
}

// contract: N8
func TestPacketConn_UnsuitableAddresses(t *testing.T) {
	guard(t, "E3, N8: an address that does not fit the socket is an error")
	a := listenPacket(t, "udp4", "127.0.0.1:0")
	for _, to := range []netip.AddrPort{{}, netip.MustParseAddrPort("[::1]:9")} {
		_, err := a.WriteToAddrPort(nil, to)
		require.ErrorIs(t, err, os.ErrInvalid)
	}
	for _, to := range []net.Addr{nil, (*net.UDPAddr)(nil), &net.UDPAddr{}, &net.TCPAddr{},
		&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 65536 + int(udpAddress(a).Port())}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: -1},
		&net.UnixAddr{Name: "x"}, (*net.UnixAddr)(nil)} {
		_, err := a.WriteTo(nil, to)
		require.ErrorIs(t, err, os.ErrInvalid, "%T", to)
	}
	u := listenPacket(t, "unixgram", socketPath(t))
	_, err := u.WriteToAddrPort(nil, udpAddress(a))
	require.ErrorIs(t, err, os.ErrInvalid)
	_, err = u.WriteTo(nil, a.LocalAddr())
	require.ErrorIs(t, err, os.ErrInvalid)
}

// contract: N8
func TestPacketConn_UnixDatagrams(t *testing.T) {
	guard(t, "N8: Unix datagrams have names, may be connected, and would block when the receiver is full")
	need(t, "unixgram")
	pathA, pathB := socketPath(t), socketPath(t)
	a, b := listenPacket(t, "unixgram", pathA), listenPacket(t, "unixgram", pathB)
	buf := make([]byte, 4)
	n, err := a.WriteTo([]byte("ping"), &net.UnixAddr{Name: pathB, Net: "unixgram"})
	require.NoError(t, err)
	require.Equal(t, 4, n)
	n, from, err := b.ReadFrom(buf)
	require.NoError(t, err)
	require.Equal(t, "ping", string(buf[:n]))
	require.Equal(t, &net.UnixAddr{Name: pathA, Net: "unixgram"}, from)

	c := dialPacket(t, "unixgram", pathB)
	for _, text := range []string{"", "12345"} {
		_, err = c.Write([]byte(text))
		require.NoError(t, err)
	}
	n, from, err = b.ReadFrom(buf)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Nil(t, from, "the sender has no name")
	n, addr, err := b.ReadFromAddrPort(buf)
	require.True(t, err == socket.ErrTruncated, "%v", err)
	require.Equal(t, "1234", string(buf[:n]))
	require.False(t, addr.IsValid())
	_, _, err = b.ReadFrom(buf)
	require.True(t, err == socket.ErrWouldBlock, "%v", err)
	_, err = c.WriteTo(nil, b.LocalAddr())
	require.ErrorIs(t, err, net.ErrWriteToConnected)

	sent := 0
	for ; sent < 1<<20; sent++ {
		if _, err = c.Write(make([]byte, 1000)); err != nil {
			break
		}
	}
	require.True(t, err == socket.ErrWouldBlock || runtime.GOOS != "linux", "%v after %d", err, sent) // ENOBUFS on BSDs
	_, err = os.Stat(pathB)
	require.NoError(t, b.Close())
	require.NoError(t, err)
	_, err = os.Stat(pathB)
	require.NoError(t, err, "Close does not remove the file, as in package net")
	_, err = c.Write(nil)
	require.ErrorIs(t, err, fixture.Refused)
}

// A link-local address has a zone.
// contract: N5
func TestPacketConn_Zones(t *testing.T) {
	guard(t, "N5: zones of IPv6 addresses have the names that package net gives them")
	interfaces, err := net.Interfaces()
	if fixture.Wine && err != nil {
		t.Skipf("package net cannot list the interfaces of this Wine: %v", err)
	}
	require.NoError(t, err)
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		require.NoError(t, err)
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil || !prefix.Addr().Is6() || !prefix.Addr().IsLinkLocalUnicast() {
				continue
			}
			at := netip.AddrPortFrom(prefix.Addr().WithZone(i.Name), 0)
			c, err := socket.ListenPacket("udp6", at.String())
			if err != nil {
				continue // the address is tentative, not usable yet
			}
			closeLater(t, c)
			require.Equal(t, at.Addr(), udpAddress(c).Addr())
			_, err = c.WriteToAddrPort([]byte("x"), udpAddress(c))
			require.NoError(t, err)
			awaitReadable(t, c)
			_, from, err := c.ReadFromAddrPort(make([]byte, 8))
			require.NoError(t, err)
			require.Equal(t, udpAddress(c), from)
			return
		}
	}
	t.Skip("no link-local address on this system")
}
