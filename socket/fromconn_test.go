//go:build unix || windows

package socket_test

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// netLink returns the two ends of a connection of package net.
func netLink(t testing.TB, network, address string) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	defer l.Close()
	a, err = net.Dial(network, l.Addr().String())
	require.NoError(t, err)
	b, err = l.Accept()
	require.NoError(t, err)
	closeLater(t, a, b)
	return a, b
}

// contract: N10
func TestFromConn_TakesOver(t *testing.T) {
	eachQueue(t, "N10: FromConn keeps the connection, and closes the net.Conn", func(t *testing.T, p *epore.Poll) {
		for network, address := range streams(t) {
			old, peer := netLink(t, network, address)
			local, remote := old.LocalAddr().String(), old.RemoteAddr().String()
			require.NoError(t, old.SetDeadline(time.Now().Add(-time.Second)), "FromConn drops deadlines")
			_, err := peer.Write([]byte("early"))
			require.NoError(t, err)

			c, err := socket.FromConn(old)
			require.NoError(t, err)
			closeLater(t, c)
			requireFlags(t, c)
			require.Equal(t, local, c.LocalAddr().String())
			require.Equal(t, remote, c.RemoteAddr().String())
			for _, err := range []error{
				errOf(old.Read(make([]byte, 1))), errOf(old.Write([]byte("x"))), old.Close(),
			} {
				require.ErrorIs(t, err, net.ErrClosed)
			}
			require.NoError(t, c.ConnectError())
			require.Equal(t, "early", read(t, c, 16), "data that the system has buffered stays")
			_, err = c.Read(make([]byte, 1))
			require.Equal(t, socket.ErrWouldBlock, err)

			require.NoError(t, p.Registry().Register(c, 1, epore.Readable))
			_, err = peer.Write([]byte("late"))
			require.NoError(t, err)
			await(t, p, 1, epore.Event.Readable)
			require.Equal(t, "late", read(t, c, 16))
			write(t, c, "answer")
			buf := make([]byte, 16)
			got, err := peer.Read(buf)
			require.NoError(t, err)
			require.Equal(t, "answer", string(buf[:got]))
			require.NoError(t, c.Close())
			_, err = peer.Read(buf)
			require.Error(t, err, "the stream has ended: no other descriptor keeps it open")
		}
	})
}

func errOf(_ int, err error) error { return err }

// A goroutine that waits in a Read of the net.Conn gets net.ErrClosed.
// contract: N10
func TestFromConn_ConcurrentRead(t *testing.T) {
	guard(t, "N10: a concurrent user of the net.Conn gets net.ErrClosed")
	old, peer := netLink(t, "tcp", "127.0.0.1:0")
	result := make(chan error, 1)
	go func() { result <- errOf(old.Read(make([]byte, 1))) }()
	c, err := socket.FromConn(old)
	require.NoError(t, err)
	closeLater(t, c)
	require.ErrorIs(t, <-result, net.ErrClosed)
	_, err = peer.Write([]byte("x"))
	require.NoError(t, err)
	require.Equal(t, "x", read(t, c, 1), "the Read has not taken it")
}

// contract: N10
func TestFromConn_UnsupportedTypes(t *testing.T) {
	guard(t, "N10: types that are more than a descriptor are refused, and stay unchanged")
	old, peer := netLink(t, "tcp", "127.0.0.1:0")
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	closeLater(t, udp)
	pipe, _ := net.Pipe()
	all := []net.Conn{tls.Client(old, nil), struct{ net.Conn }{old}, pipe, udp}
	if lacks("unixgram") == "" {
		gram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socketPath(t), Net: "unixgram"})
		require.NoError(t, err)
		closeLater(t, gram)
		all = append(all, gram)
	}
	for _, c := range all {
		_, err := socket.FromConn(c)
		require.ErrorIs(t, err, errors.ErrUnsupported, "%T", c)
		require.ErrorContains(t, err, "take over")
	}
	_, err = socket.FromConn(nil)
	require.ErrorIs(t, err, os.ErrInvalid)
	for _, c := range []net.Conn{(*net.TCPConn)(nil), (*net.UnixConn)(nil)} {
		_, err = socket.FromConn(c)
		require.Error(t, err)
	}
	_, err = peer.Write([]byte("x"))
	require.NoError(t, err)
	_, err = old.Read(make([]byte, 1))
	require.NoError(t, err, "it is unchanged")

	if lacks("unix") == "" {
		stream, _ := netLink(t, "unix", socketPath(t))
		_, err = socket.FromPacketConn(stream.(*net.UnixConn))
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
	_, err = socket.FromPacketConn(nil)
	require.ErrorIs(t, err, os.ErrInvalid)

	require.NoError(t, old.Close())
	_, err = socket.FromConn(old)
	require.ErrorIs(t, err, net.ErrClosed)
}

// contract: N10
func TestFromPacketConn_TakesOver(t *testing.T) {
	guard(t, "N10: FromPacketConn takes over UDP and Unix datagram sockets")
	old, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	client, err := net.DialUDP("udp", nil, old.LocalAddr().(*net.UDPAddr))
	require.NoError(t, err)
	clientAddr := client.LocalAddr().(*net.UDPAddr).AddrPort()
	b, err := socket.FromPacketConn(old)
	require.NoError(t, err)
	closeLater(t, b)
	a, err := socket.FromPacketConn(client)
	require.NoError(t, err)
	closeLater(t, a)
	require.ErrorIs(t, old.Close(), net.ErrClosed)

	_, err = a.Write([]byte("ping"))
	require.NoError(t, err)
	awaitReadable(t, b)
	buf := make([]byte, 8)
	_, from, err := b.ReadFromAddrPort(buf)
	require.NoError(t, err)
	require.Equal(t, clientAddr, from)
	_, err = b.WriteToAddrPort([]byte("pong"), from)
	require.NoError(t, err)
	_, err = a.WriteToAddrPort([]byte("x"), udpAddress(b))
	require.ErrorIs(t, err, net.ErrWriteToConnected, "it detects that it is connected")

	need(t, "unixgram")
	gram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socketPath(t), Net: "unixgram"})
	require.NoError(t, err)
	name := gram.LocalAddr()
	g, err := socket.FromPacketConn(gram)
	require.NoError(t, err)
	closeLater(t, g)
	require.Equal(t, name, g.LocalAddr())
}
