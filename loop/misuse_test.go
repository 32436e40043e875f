//go:build unix || windows

package loop_test

import (
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
