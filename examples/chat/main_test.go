//go:build unix || windows

package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
)

func TestChat_TwoClientsTalk(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	status := make(chan int, 1)
	go func() { status <- run(ctx, []string{"-addr", "127.0.0.1:0"}, w, w); _ = w.Close() }()
	out := bufio.NewReader(r)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	addr, _, _ := strings.Cut(strings.TrimPrefix(line, "listening on http://"), ";")
	a := dialed(t, ctx, addr, "ann")
	require.Equal(t, "* ann joined", a.read(t))
	b := dialed(t, ctx, addr, "bob")
	require.Equal(t, "* bob joined", b.read(t))
	require.Equal(t, "* bob joined", a.read(t))
	require.NoError(t, wsutil.WriteClientText(a.conn, []byte("hello")))
	require.Equal(t, "ann: hello", a.read(t))
	require.Equal(t, "ann: hello", b.read(t))
	require.NoError(t, b.conn.Close())
	require.Equal(t, "* bob left", a.read(t))
	stop()
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	require.Equal(t, "2 members, 1 messages, 0 dropped\n", string(rest))
	require.Zero(t, <-status)
}

// client is a member, seen from the other side.
type client struct {
	conn net.Conn
	in   io.Reader
}

func dialed(t *testing.T, ctx context.Context, addr, name string) client {
	t.Helper()
	c, buffered, _, err := ws.Dial(ctx, "ws://"+addr+"/ws?room=r&name="+name)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	if buffered != nil { // frames that came with the answer
		return client{c, buffered}
	}
	return client{c, c}
}

func (c client) read(t *testing.T) string {
	t.Helper()
	f, err := ws.ReadFrame(c.in)
	require.NoError(t, err)
	return string(f.Payload)
}
