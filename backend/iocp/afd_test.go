//go:build windows

package iocp

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// A handle that is not a socket is ErrNotPollable, and a closed one is EBADF.
// contract: R8
func TestAdd_NotASocket(t *testing.T) {
	q := openQueue(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer file.Close()
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	handles := []windows.Handle{windows.Handle(file.Fd()), windows.Handle(null.Fd()), windows.Handle(r.Fd()), windows.Handle(w.Fd()), q.port}
	name, err := windows.UTF16PtrFromString("CONIN$")
	require.NoError(t, err)
	console, err := windows.CreateFile(name, windows.GENERIC_READ, windows.FILE_SHARE_READ, nil, windows.OPEN_EXISTING, 0, 0)
	if err == nil {
		defer windows.CloseHandle(console)
		handles = append(handles, console)
	} else {
		t.Logf("there is no console: %v", err)
	}
	for _, h := range handles {
		err := q.Add(backend.Handle(h), 1, readable)
		require.ErrorIs(t, err, backend.ErrNotPollable)
		require.ErrorIs(t, err, windows.WSAENOTSOCK)
		require.NotContains(t, err.Error(), backend.ErrNotPollable.Error(), "pipes and consoles block")
		require.ErrorContains(t, err, "Mailbox")
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

// Add of a synchronous pipe does not wait for the read in progress on it, which would
// stop all other changes, and the Poll.
// contract: R8
func TestAdd_PipeWithReadInProgress(t *testing.T) {
	q := openQueue(t)
	var r, w windows.Handle
	require.NoError(t, windows.CreatePipe(&r, &w, nil, 0))
	reading, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		close(reading)
		var n uint32
		err := windows.ReadFile(r, make([]byte, 1), &n, nil)
		ended <- err
	}()
	<-reading
	defer func() {
		require.NoError(t, windows.CloseHandle(w))
		require.ErrorIs(t, <-ended, windows.ERROR_BROKEN_PIPE)
		require.NoError(t, windows.CloseHandle(r))
	}()
	added := make(chan error, 1)
	go func() {
		for range 100 { // the read may begin later
			if err := q.Add(backend.Handle(r), 1, readable); !errors.Is(err, backend.ErrNotPollable) {
				added <- err
				return
			}
		}
		added <- backend.ErrNotPollable
	}()
	select {
	case err := <-added:
		require.ErrorIs(t, err, backend.ErrNotPollable)
	case <-time.After(fixture.Soon):
		require.Fail(t, "Add waits for the read")
	}
}

// With layered providers, AFD's handle is the first that differs from the socket's.
func TestBaseHandle(t *testing.T) {
	type answer struct {
		base windows.Handle
		err  error
	}
	const h, base = 8, 16
	hidden := answer{base: h}
	found := answer{base: base}
	for name, row := range map[string]struct {
		answers [3]answer // of SELECT, POLL and BASE
		want    windows.Handle
		is      error
	}{
		"select":                      {[3]answer{found}, base, nil},
		"hidden from select":          {[3]answer{hidden, found}, base, nil},
		"hidden from select and poll": {[3]answer{hidden, hidden, found}, base, nil},
		"only base is supported":      {[3]answer{{err: windows.WSAEOPNOTSUPP}, {err: windows.WSAEOPNOTSUPP}, found}, base, nil},
		"the others fail":             {[3]answer{{err: windows.WSAEFAULT}, {err: windows.WSAEINVAL}, found}, base, nil},
		"hidden from all":             {[3]answer{hidden, hidden, hidden}, 0, backend.ErrNotPollable},
		"not a socket":                {[3]answer{{err: windows.WSAENOTSOCK}, {err: windows.WSAENOTSOCK}, {err: windows.WSAENOTSOCK}}, 0, backend.ErrNotPollable},
		"not a socket, on new Wine":   {[3]answer{{err: windows.WSAEOPNOTSUPP}, {err: windows.WSAEOPNOTSUPP}, {err: windows.WSAEOPNOTSUPP}}, 0, backend.ErrNotPollable},
		"another failure":             {[3]answer{{err: windows.WSAEOPNOTSUPP}, {err: windows.WSAEOPNOTSUPP}, {err: windows.WSAENETDOWN}}, 0, windows.WSAENETDOWN},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			got, err := baseHandle(h, func(on windows.Handle, control uint32) (windows.Handle, error) {
				require.EqualValues(t, h, on)
				a := row.answers[calls]
				calls++
				return a.base, a.err
			})
			require.Equal(t, row.want, got)
			if row.is == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, row.is)
			}
		})
	}
}

// The Winsock of this system answers the controls: it has no layered providers, so the
// handle is the socket itself, or the control is unknown.
func TestHandleBelow(t *testing.T) {
	require.False(t, layeredProviders())
	a, _ := fixture.TCPPair(t)
	answered := false
	for _, control := range handleControls {
		base, err := handleBelow(windows.Handle(a.FD), control)
		if err == nil {
			require.EqualValues(t, a.FD, base)
			answered = true
		} else {
			require.True(t, refusesHandle(err) || errors.Is(err, windows.WSAEINVAL), "%v", err)
		}
	}
	require.True(t, answered)
	_, err := layeredHandle(windows.Handle(a.FD))
	require.ErrorIs(t, err, backend.ErrNotPollable)
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
