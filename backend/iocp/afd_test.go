//go:build windows

package iocp

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// A handle that is not a socket is ErrNotPollable, and a closed one is EBADF.
func TestAdd_NotASocket(t *testing.T) {
	q := openQueue(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer file.Close()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	for _, f := range []*os.File{file, r, w} {
		require.ErrorIs(t, q.Add(backend.Handle(f.Fd()), 1, readable), backend.ErrNotPollable)
	}
	a, _ := fixture.TCPPair(t)
	other := a.Handle() + 1 // the same handle, to Windows
	require.ErrorIs(t, q.Add(other, 1, readable), syscall.EBADF)
	a.Close()
	for _, h := range []backend.Handle{a.Handle(), 0, 3, 1 << 20, ^backend.Handle(0)} {
		require.ErrorIs(t, q.Add(h, 1, readable), syscall.EBADF, "%#x", h)
	}
	require.Zero(t, q.inUse())
}

// Sockets of package net, which are associated with the port of Go's runtime.
func TestAdd_SocketsOfPackageNet(t *testing.T) {
	q := openQueue(t)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer l.Close()
	handle := func(c syscall.Conn) (h backend.Handle) {
		raw, err := c.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) { h = backend.Handle(fd) }))
		return h
	}
	require.NoError(t, q.Add(handle(l), 1, readable))
	c, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}, next(t, q))
	s, err := l.AcceptTCP()
	require.NoError(t, err)
	defer s.Close()
	require.Empty(t, brief(t, q))
	require.NoError(t, q.Add(handle(s), 2, readable))
	_, err = c.Write([]byte("hello"))
	require.NoError(t, err)
	require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, next(t, q))
	buf := make([]byte, 10)
	n, err := s.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "hello", string(buf[:n]))
	require.Empty(t, brief(t, q))
	require.NoError(t, c.CloseWrite())
	require.True(t, next(t, q)[0].Ready.Has(backend.ReadyReadClosed))

	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer u.Close()
	require.NoError(t, q.Delete(handle(s)))
	require.NoError(t, q.Add(handle(u), 3, readable))
	_, err = u.WriteTo([]byte("x"), u.LocalAddr())
	require.NoError(t, err)
	require.Equal(t, []backend.Event{{Key: 3, Ready: backend.ReadyReadable}}, next(t, q))
}
