//go:build unix || windows

package socket_test

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
)

const ruleFrom = "From*: a socket from elsewhere is taken over as it is, or refused and left as it was"

// contract: N11
func TestFromListener(t *testing.T) {
	eachQueue(t, ruleFrom, func(t *testing.T, p *epore.Poll) {
		for network, address := range streams(t) {
			old, err := net.Listen(network, address)
			require.NoError(t, err)
			addr := old.Addr().String()
			early, err := net.Dial(network, addr)
			require.NoError(t, err)
			closeLater(t, old, early)

			l, err := socket.FromListener(old)
			require.NoError(t, err)
			closeLater(t, l)
			_, err = old.Accept()
			require.ErrorIs(t, err, net.ErrClosed)
			require.Equal(t, addr, l.Addr().String())
			require.NoError(t, p.Registry().Register(l, 1, epore.Readable))
			await(t, p, 1, epore.Event.Readable)
			c := accept(t, l)
			if early.LocalAddr().String() != "" {
				require.Equal(t, early.LocalAddr().String(), c.RemoteAddr().String(), "a connection that waited is accepted")
			}
			_, err = l.Accept()
			require.Equal(t, socket.ErrWouldBlock, err)
			write(t, c, "hello")
			buf := make([]byte, 16)
			n, err := early.Read(buf)
			require.NoError(t, err)
			require.Equal(t, "hello", string(buf[:n]))

			// The file stays, unless it is to go.
			require.NoError(t, l.Close())
			if network == "unix" {
				require.FileExists(t, addr)
				require.NoError(t, os.Remove(addr))
			}
		}
	})
}

// contract: N11
func TestFromListener_RemovesTheFileWhenTold(t *testing.T) {
	need(t, "unix")
	path := socketPath(t)
	old, err := net.Listen("unix", path)
	require.NoError(t, err)
	l, err := socket.FromListener(old)
	require.NoError(t, err)
	l.SetUnlinkOnClose(true)
	require.NoError(t, l.Close())
	require.NoFileExists(t, path)
}

// otherListener is a listener that is more than its descriptor.
type otherListener struct{ net.Listener }

// contract: N11
func TestFromListener_Refuses(t *testing.T) {
	_, err := socket.FromListener(nil)
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = socket.FromListener((*net.TCPListener)(nil))
	require.ErrorIs(t, err, fs.ErrInvalid)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, err = socket.FromListener(otherListener{l})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = socket.FromListener(new(net.TCPListener))
	require.Error(t, err)
	_, err = socket.FromListener(new(net.UnixListener))
	require.Error(t, err)
	require.NoError(t, l.Close(), "it is as it was")
	_, err = socket.FromListener(l)
	require.ErrorIs(t, err, net.ErrClosed)
}

// fileOf is a duplicate as an inherited descriptor would be.
func fileOf(t *testing.T, s socket.Socket) *os.File {
	t.Helper()
	f, err := s.File()
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// contract: N11, N12
func TestFromFile(t *testing.T) {
	guard(t, ruleFrom)
	for network, address := range streams(t) {
		l := listen(t, network, address)
		f := fileOf(t, l)
		taken, err := socket.FromFile(f)
		require.NoError(t, err)
		closeLater(t, taken)
		require.ErrorIs(t, f.Close(), os.ErrClosed)
		second, ok := taken.(*socket.Listener)
		require.True(t, ok, "%T", taken)
		require.Equal(t, l.Addr(), second.Addr())
		// The first one may go: the second has what waits.
		a := dial(t, network, l.Addr().String())
		l.SetUnlinkOnClose(false)
		require.NoError(t, l.Close())
		b := accept(t, second)
		awaitWritable(t, a)
		require.NoError(t, a.ConnectError())

		taken, err = socket.FromFile(fileOf(t, b))
		require.NoError(t, err)
		c, ok := taken.(*socket.Conn)
		require.True(t, ok, "%T", taken)
		closeLater(t, c)
		require.NoError(t, c.ConnectError())
		require.NoError(t, b.Close())
		write(t, c, "hello")
		require.Equal(t, "hello", read(t, a, 16))
		require.NoError(t, c.Close())
		require.Empty(t, readAll(t, a))
	}
	for _, network := range udpNetworks {
		need(t, network[0])
		a := listenPacket(t, network[0], network[1])
		taken, err := socket.FromFile(fileOf(t, a))
		require.NoError(t, err)
		closeLater(t, taken)
		b, ok := taken.(*socket.PacketConn)
		require.True(t, ok, "%T", taken)
		to := udpAddress(b)
		_, err = a.WriteToAddrPort([]byte("hello"), to)
		require.NoError(t, err)
		awaitReadable(t, b)
		buf := make([]byte, 16)
		n, from, err := b.ReadFromAddrPort(buf)
		require.NoError(t, err)
		require.Equal(t, "hello", string(buf[:n]))
		require.Equal(t, to, from)

		connected, err := socket.DialPacket(network[0], to.String())
		require.NoError(t, err)
		closeLater(t, connected)
		taken, err = socket.FromFile(fileOf(t, connected))
		require.NoError(t, err)
		closeLater(t, taken)
		_, err = taken.(*socket.PacketConn).WriteToAddrPort(nil, to)
		require.ErrorIs(t, err, net.ErrWriteToConnected)
	}
}

// A Conn that is still connecting is taken for that.
// contract: N11
func TestFromFile_StillConnecting(t *testing.T) {
	guard(t, ruleFrom)
	l := listen(t, "tcp", "127.0.0.1:0")
	refused := l.Addr().String()
	require.NoError(t, l.Close())
	taken, err := socket.FromFile(fileOf(t, dial(t, "tcp", refused)))
	require.NoError(t, err)
	c := taken.(*socket.Conn)
	closeLater(t, c)
	awaitWritable(t, c)
	err = c.ConnectError()
	require.Error(t, err)
	require.Equal(t, err, c.ConnectError())
	_, err = c.NetConn()
	require.Error(t, err)
}

// contract: N11
func TestFromFile_Refuses(t *testing.T) {
	_, err := socket.FromFile(nil)
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = socket.FromFile(new(os.File))
	require.Error(t, err)
	f, err := os.Create(t.TempDir() + "/file")
	require.NoError(t, err)
	_, err = socket.FromFile(f)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = socket.FromFD(f.Fd())
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = f.WriteString("it is as it was")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = socket.FromFile(f)
	require.Error(t, err)
	_, err = socket.FromFD(-1)
	require.Error(t, err)
}

// bearWine skips what needs package net to take a descriptor over: Wine 8 lacks what its
// method File asks Windows for.
func bearWine(t *testing.T) {
	if fixture.Wine {
		t.Skip("in Wine, package net takes no descriptors over")
	}
}

// contract: N12
func TestNetConn(t *testing.T) {
	bearWine(t)
	eachQueue(t, "NetConn: the connection goes on as one of package net, the Conn is closed", func(t *testing.T, p *epore.Poll) {
		for network, address := range streams(t) {
			a, b := connected(t, network, address)
			require.NoError(t, p.Registry().Register(a, 1, epore.Readable))
			write(t, b, "early")
			local := a.LocalAddr().String()
			c, err := a.NetConn()
			require.NoError(t, err)
			closeLater(t, c)
			require.ErrorIs(t, a.Close(), net.ErrClosed)
			require.Equal(t, local, c.LocalAddr().String())
			events := epore.NewEvents(8)
			require.NoError(t, p.Poll(events, 0))
			require.Zero(t, events.Len(), "it is deregistered")
			buf := make([]byte, 16)
			n, err := c.Read(buf)
			require.NoError(t, err)
			require.Equal(t, "early", string(buf[:n]))
			late := make(chan string)
			go func() { // it waits, as they do
				n, _ := c.Read(buf)
				late <- string(buf[:n])
			}()
			write(t, b, "late")
			require.Equal(t, "late", <-late)
			require.NoError(t, c.Close())
			_, err = b.Read(buf)
			for err == socket.ErrWouldBlock {
				awaitReadable(t, b)
				_, err = b.Read(buf)
			}
			require.Equal(t, io.EOF, err, "no other descriptor keeps it open")
		}
	})
}

// contract: N12
func TestNetConn_ThereAndBack(t *testing.T) {
	bearWine(t)
	guard(t, "NetConn and FromConn are each other's way back")
	a, b := connected(t, "tcp", "127.0.0.1:0")
	for range 3 {
		c, err := a.NetConn()
		require.NoError(t, err)
		a, err = socket.FromConn(c)
		require.NoError(t, err)
		closeLater(t, a)
		write(t, a, "x")
		require.Equal(t, "x", read(t, b, 1))
	}
}

// contract: N12
func TestNetConn_WhatCannotBe(t *testing.T) {
	var zero socket.Conn
	_, err := zero.NetConn()
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = zero.File()
	require.ErrorIs(t, err, net.ErrClosed)
	a, _ := pair(t)
	require.NoError(t, a.Close())
	_, err = a.NetConn()
	require.ErrorIs(t, err, net.ErrClosed)
}

// contract: N12
func TestNoDeadlines(t *testing.T) {
	guard(t, "NoDeadlines: a net.Conn whose deadlines do nothing")
	a, b := pair(t)
	var c net.Conn = socket.NoDeadlines{Conn: a}
	for _, set := range []func() error{
		func() error { return c.SetDeadline(past) },
		func() error { return c.SetReadDeadline(past) },
		func() error { return c.SetWriteDeadline(past) },
	} {
		require.NoError(t, set())
	}
	_, err := c.Read(make([]byte, 1))
	require.Equal(t, socket.ErrWouldBlock, err)
	write(t, b, "x")
	awaitReadable(t, a)
	n, err := c.Read(make([]byte, 2))
	require.NoError(t, err)
	require.Equal(t, 1, n)

	p, err := epore.New()
	require.NoError(t, err)
	defer p.Close()
	require.NoError(t, p.Registry().Register(socket.NoDeadlines{Conn: a}, 1, epore.Readable))
	require.NoError(t, c.Close())
	require.ErrorIs(t, c.SetDeadline(past), net.ErrClosed)
	events := epore.NewEvents(8)
	require.NoError(t, p.Poll(events, 0))
	require.Zero(t, events.Len())
}
