//go:build unix || windows

package socket_test

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
)

const connectRule = "M8, N6: Dial only begins to connect; Writable reports the end of the attempt, and ConnectError its result"

// contract: M8, N6
func TestDial_Connects(t *testing.T) {
	eachQueue(t, connectRule, func(t *testing.T, p *epore.Poll) {
		for _, mode := range modes(p) {
			for network, address := range streams(t) {
				l := listen(t, network, address)
				c := dial(t, network, l.Addr().String())
				require.NoError(t, p.Registry().Register(c, 1, epore.Writable|mode))
				await(t, p, 1, epore.Event.Writable)
				for range 2 {
					require.NoError(t, c.ConnectError())
				}
				a := accept(t, l)
				require.Equal(t, l.Addr(), c.RemoteAddr())
				require.Equal(t, a.LocalAddr(), c.RemoteAddr())
				require.Equal(t, l.Addr().Network(), c.LocalAddr().Network())
				write(t, c, "x")
				require.Equal(t, "x", read(t, a, 8))
				for _, s := range []io.Closer{c, a, l} {
					require.NoError(t, s.Close())
				}
			}
		}
	})
}

// unusedAddress returns an address on which no socket listens.
func unusedAddress(t *testing.T) string {
	l := listen(t, "tcp", "127.0.0.1:0")
	address := l.Addr().String()
	require.NoError(t, l.Close())
	return address
}

// contract: M8, N6
func TestDial_Refused(t *testing.T) {
	eachQueue(t, connectRule, func(t *testing.T, p *epore.Poll) {
		for _, mode := range modes(p) {
			address := unusedAddress(t)
			c, err := socket.Dial("tcp", address)
			if err == nil { // some systems refuse it at once
				closeLater(t, c)
				require.NoError(t, p.Registry().Register(c, 1, epore.Writable|mode))
				await(t, p, 1, epore.Event.Writable)
				err = c.ConnectError()
				require.ErrorIs(t, c.ConnectError(), fixture.Refused, "the second call")
				_, readErr := c.Read(make([]byte, 1))
				require.ErrorContains(t, readErr, "read tcp "+address+": ", "not the end of a stream")
				require.NotEqual(t, socket.ErrWouldBlock, readErr)
				_, writeErr := c.Write(make([]byte, 1))
				require.ErrorContains(t, writeErr, "write tcp "+address+": ")
				require.NoError(t, c.Close())
			}
			require.ErrorIs(t, err, fixture.Refused)
			require.ErrorContains(t, err, "dial tcp "+address+": connect: ", "the error names the target")
		}
	})
}

// A Read or Write before ConnectError gets the error that ConnectError returns afterwards.
// contract: N6
func TestDial_RefusalReportedToReader(t *testing.T) {
	guard(t, connectRule)
	for _, op := range []func(*socket.Conn) error{
		func(c *socket.Conn) error { _, err := c.Read(make([]byte, 1)); return err },
		func(c *socket.Conn) error { _, err := c.Write(make([]byte, 1)); return err },
	} {
		address := unusedAddress(t)
		c, err := socket.Dial("tcp", address)
		if err != nil {
			t.Skipf("refused at once: %v", err)
		}
		closeLater(t, c)
		awaitWritable(t, c)
		err = op(c)
		require.ErrorIs(t, err, fixture.Refused)
		require.ErrorContains(t, err, " tcp "+address+": ")
		for range 2 {
			require.ErrorIs(t, c.ConnectError(), fixture.Refused)
		}
	}
}

// A Conn whose ConnectError was never called: an error after the first transfer, or after
// CloseWrite, is not the result of the attempt to connect.
// contract: N6
func TestDial_TransferEndsTheAttempt(t *testing.T) {
	for name, transfer := range map[string]func(t *testing.T, c, peer *socket.Conn){
		"Write": func(t *testing.T, c, peer *socket.Conn) { write(t, c, "x"); read(t, peer, 1) },
		"WriteBuffers": func(t *testing.T, c, peer *socket.Conn) {
			_, err := c.WriteBuffers(&net.Buffers{[]byte("x")})
			require.NoError(t, err)
			read(t, peer, 1)
		},
		"Read": func(t *testing.T, c, peer *socket.Conn) { write(t, peer, "x"); read(t, c, 1) },
		"ReadBuffers": func(t *testing.T, c, peer *socket.Conn) {
			write(t, peer, "x")
			awaitReadable(t, c)
			_, err := c.ReadBuffers([][]byte{make([]byte, 1)})
			require.NoError(t, err)
		},
		"CloseWrite": func(*testing.T, *socket.Conn, *socket.Conn) {},
	} {
		connect := func(t *testing.T) (c, peer *socket.Conn) {
			l := listen(t, "tcp", "127.0.0.1:0")
			c = dial(t, "tcp", l.Addr().String())
			awaitWritable(t, c)
			peer = accept(t, l)
			transfer(t, c, peer)
			return c, peer
		}
		t.Run(name, func(t *testing.T) {
			guard(t, "N6: after the first transfer an error is that of the connection")
			c, peer := connect(t)
			require.NoError(t, c.CloseWrite())
			_, err := c.Write([]byte("x"))
			require.ErrorIs(t, err, errShut)
			require.NoError(t, peer.Close())
			awaitReadable(t, c)
			_, err = c.Read(make([]byte, 1))
			require.True(t, err == io.EOF, "%v", err)
			require.NoError(t, c.ConnectError())
		})
		if name == "CloseWrite" {
			continue
		}
		t.Run(name+", then reset", func(t *testing.T) {
			guard(t, "N6: a reset after the first transfer is not the result of the attempt")
			c, peer := connect(t)
			require.NoError(t, peer.SetLinger(0))
			require.NoError(t, peer.Close())
			awaitReadable(t, c)
			_, err := c.Read(make([]byte, 1))
			require.Error(t, err)
			require.NoError(t, c.ConnectError())
		})
	}
}

// An attempt that does not end, because the backlog of the listener is full.
// contract: N6
func TestDial_StillConnecting(t *testing.T) {
	eachQueue(t, connectRule+"; until then every operation would block", func(t *testing.T, p *epore.Poll) {
		l := listen(t, "tcp", "127.0.0.1:0", socket.Backlog(1))
		var c *socket.Conn
		for range 8 { // the first few fit in the backlog
			c = dial(t, "tcp", l.Addr().String())
		}
		require.NoError(t, p.Registry().Register(c, 1, epore.Readable|epore.Writable))
		events := epore.NewEvents(4)
		require.NoError(t, p.Poll(events, 0))
		if events.Len() > 0 || fixture.Wine && c.ConnectError() == nil { // Wine reports the event a moment later
			t.Skip("this system allows more waiting connections than the backlog")
		}
		require.Equal(t, socket.ErrWouldBlock, c.ConnectError())
		_, err := c.Read(make([]byte, 1))
		require.Equal(t, socket.ErrWouldBlock, err)
		_, err = c.Write(make([]byte, 1))
		require.Equal(t, socket.ErrWouldBlock, err)
		_, err = c.WriteBuffers(&net.Buffers{make([]byte, 1)})
		require.Equal(t, socket.ErrWouldBlock, err)
		require.Equal(t, socket.ErrWouldBlock, c.ConnectError())
		require.Nil(t, c.RemoteAddr())
		require.NoError(t, l.Close(), "it resets the waiting connections, not this one")
		require.NoError(t, c.Close())
		require.NoError(t, p.Poll(events, 0))
		require.Zero(t, events.Len())
	})
}

// contract: N6
func TestDial_ImmediateErrors(t *testing.T) {
	guard(t, "N6: Dial fails at once if the system knows at once, and names the address")
	path := socketPath(t)
	_, err := socket.Dial("unix", path)
	if runtime.GOOS != "windows" {
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	require.ErrorContains(t, err, "dial unix "+path)
	_, err = socket.Dial("tcp", "nowhere:80")
	require.ErrorContains(t, err, "resolve it first")
	var address *net.AddrError
	require.ErrorAs(t, err, &address)
	require.Equal(t, "nowhere:80", address.Addr)
}

// An address without a host means this host, as in package net.
// contract: N5
func TestDial_WithoutHost(t *testing.T) {
	guard(t, "N5: an address without a host means this host")
	l := listen(t, "tcp4", "127.0.0.1:0")
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	reaches := func(l *socket.Listener, address string) {
		c := dial(t, "tcp", address)
		awaitWritable(t, c)
		require.NoError(t, c.ConnectError(), address)
		accept(t, l)
	}
	reaches(l, ":"+port)
	reaches(l, "0.0.0.0:"+port)
	if like, err := net.Listen("tcp", ":0"); err == nil {
		dual := like.Addr().(*net.TCPAddr).IP.To4() == nil
		require.NoError(t, like.Close())
		if dual && hasIPv6() { // otherwise the host that [::] means is 127.0.0.1
			l = listen(t, "tcp6", "[::1]:0")
			reaches(l, fmt.Sprint("[::]:", l.Addr().(*net.TCPAddr).Port))
		}
	}
}
