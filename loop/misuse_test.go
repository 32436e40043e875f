//go:build unix || windows

package loop_test

import (
	"crypto/tls"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/loop"
	"github.com/epore/epore/socket"
)

// contract: E3
func TestRun_NilContext(t *testing.T) {
	guard(t, "E3: no input panics")
	//lint:ignore SA1012 that is the test
	err := loop.Run(nil, 1, loop.Config{}, func(*loop.Loop) error { return nil })
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorContains(t, err, "nil context")
}

// contract: E3
func TestLoop_ZeroValue(t *testing.T) {
	guard(t, "E3: no input panics")
	a, _ := pair(t)
	listener, err := socket.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l, h := new(loop.Loop), new(echo)
	_, listen := l.Listen("tcp", "127.0.0.1:0", nil, h)
	_, dial := l.Dial("tcp", "127.0.0.1:1", time.Second, clientTLS(), h)
	_, adopt := l.Adopt(a, nil, h)
	for call, err := range map[string]error{
		"Listen": listen, "Dial": dial, "Adopt": adopt,
		"Post":  l.Post(func() {}),
		"Serve": l.Serve(listener, nil, h),
	} {
		require.ErrorIs(t, err, fs.ErrInvalid, call)
		require.ErrorContains(t, err, "loop.Run", call)
	}
	require.Nil(t, listener.Addr(), "Serve closes it when it fails")
	require.NotNil(t, a.LocalAddr(), "it is still the caller's")
	l.Unhandle(l.Handle(func(epore.Event) {}))
	require.Nil(t, l.Poll())
	require.False(t, l.After(0, func() {}).Stop())
	require.False(t, new(loop.Timer).Stop())
}

// contract: E3
func TestConn_ZeroValue(t *testing.T) {
	guard(t, "E3: no input panics")
	c := new(loop.Conn)
	_, err := c.Write([]byte("x"))
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorContains(t, err, "loop: write: zero Conn")
	_, _, _, err = c.Detach()
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorContains(t, err, "loop: detach: zero Conn")
	for range 2 { // as each leaves it
		c.Pause()
		c.Resume()
		c.CloseWrite()
		c.SetDeadline(time.Now())
		c.Close()
		c.Abort()
	}
	c.SetValue(1)
	require.Equal(t, 1, c.Value())
	require.Zero(t, c.Buffered())
	require.Nil(t, c.Loop())
	require.Nil(t, c.TLS())
	require.Nil(t, c.LocalAddr())
	require.Nil(t, c.RemoteAddr())
}

// What cannot return an error fails where the caller is, not later on the loop.
// contract: E3
func TestLoop_NilFunction(t *testing.T) {
	guard(t, "E3: a nil function is refused at the call")
	s := run(t, 1, loop.Config{}, func(*server, *loop.Loop) error { return nil })
	s.on(func() {
		l := s.loops[0]
		require.PanicsWithValue(t, "loop: After: nil function", func() { l.After(0, nil) })
		require.PanicsWithValue(t, "loop: Handle: nil function", func() { l.Handle(nil) })
		require.ErrorIs(t, l.Post(nil), fs.ErrInvalid)
		require.ErrorContains(t, l.Post(nil), "loop: post: nil function")
	})
}

// contract: E1
func TestLoop_RefusalNamesCallAndAddress(t *testing.T) {
	guard(t, "E1: an error says what was attempted on what")
	s := run(t, 1, loop.Config{}, func(*server, *loop.Loop) error { return nil })
	a, _ := pair(t)
	listener := func() *socket.Listener {
		l, err := socket.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return l
	}
	conn, err := socket.Dial("tcp", listenOn(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	await(t, "it is connected", func() bool { return conn.ConnectError() == nil })
	noCert, h := new(tls.Config), new(echo)
	first, second := listener(), listener()
	firstAddr, secondAddr, remote := first.Addr().String(), second.Addr().String(), conn.RemoteAddr().String()
	s.on(func() {
		l := s.loops[0]
		_, listen := l.Listen("tcp", "127.0.0.1:0", nil, nil)
		_, listenTLS := l.Listen("tcp", "127.0.0.1:0", noCert, h)
		_, dial := l.Dial("tcp", "127.0.0.1:1", 0, nil, nil)
		_, adopt := l.Adopt(conn, nil, nil)
		_, adoptTLS := l.Adopt(conn, noCert, h)
		_, adoptNil := l.Adopt(nil, nil, h)
		_, adoptZero := l.Adopt(new(socket.Conn), nil, nil)
		_, adoptUnnamed := l.Adopt(a, nil, nil)
		for _, c := range []struct {
			err  error
			want string
		}{
			{listen, "listen tcp 127.0.0.1:0: loop: nil handler: "},
			{listenTLS, "listen tcp 127.0.0.1:0: loop: tls.Config without a certificate: "},
			{dial, "dial tcp 127.0.0.1:1: loop: nil handler: "},
			{adopt, "adopt tcp " + remote + ": loop: nil handler: "},
			{adoptTLS, "adopt tcp " + remote + ": loop: tls.Config without a certificate: "},
			{adoptNil, "adopt: loop: nil socket: "},
			{adoptZero, "adopt: loop: nil handler: "},
			{adoptUnnamed, "loop: nil handler: "},
			{l.Serve(first, nil, nil), "serve tcp " + firstAddr + ": loop: nil handler: "},
			{l.Serve(second, noCert, h), "serve tcp " + secondAddr + ": loop: tls.Config without a certificate: "},
			{l.Serve(nil, nil, h), "serve: loop: nil socket: "},
		} {
			require.ErrorIs(t, c.err, fs.ErrInvalid)
			require.ErrorContains(t, c.err, c.want)
		}
	})
	require.NoError(t, conn.ConnectError(), "Adopt that fails leaves it")
}

// A Config that finds its certificate, or another Config, only during the handshake is enough.
// contract: T1
func TestListen_TLSConfigWithCallbacks(t *testing.T) {
	guard(t, "a certificate may come from a callback")
	for name, conf := range map[string]*tls.Config{
		"GetCertificate":     {GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &serverTLS().Certificates[0], nil }},
		"GetConfigForClient": {GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return serverTLS(), nil }},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, 1, loop.Config{}, conf, new(echo))
			ask(t, dialTLS(t, s.addr, nil), "hello")
		})
	}
}

// listenOn returns the address of a listener that accepts nothing by itself.
func listenOn(t *testing.T) string {
	l, err := socket.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}
