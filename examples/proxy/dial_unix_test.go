//go:build unix

package main

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/internal/fixture"
)

// unanswered returns a listener at which connecting takes until connections are accepted: its
// backlog is full.
func unanswered(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	raw, err := l.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	var failed error
	require.NoError(t, raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), 0) }))
	require.NoError(t, failed)
	for range 10 {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 200*time.Millisecond)
		if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
			return l.(*net.TCPListener)
		}
		require.NoError(t, err)
		require.NoError(t, c.Close()) // it stays in the backlog
	}
	t.Skip("this system completes connections beyond the backlog")
	return nil
}

// awaitStatistics waits until the program prints statistics that contain want.
func (r *running) awaitStatistics(t *testing.T, want string) {
	t.Helper()
	for begin := time.Now(); ; {
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
		line, err := r.out.ReadString('\n')
		require.NoError(t, err)
		if strings.Contains(line, want) {
			return
		}
		require.Less(t, time.Since(begin), limit, line)
	}
}

// sockets returns how many sockets this process has. (A queue may open a timer for its first
// timeout, whenever that comes.)
func sockets() (n int) {
	for fd := range fixture.Descriptors(4096) {
		var s syscall.Stat_t
		if syscall.Fstat(fd, &s) == nil && s.Mode&syscall.S_IFMT == syscall.S_IFSOCK {
			n++
		}
	}
	return n
}

// A client that resets its connection while its backend is being dialed leaves nothing
// behind: no socket, no open connection, and no backend that counts as dead.
func TestProxy_ClientResetsWhileDialing(t *testing.T) {
	l := unanswered(t)
	p := started(t, "-connect", "1h", "-grace", "1h", l.Addr().String())
	before := sockets()
	const clients = 5
	for range clients {
		c := dial(t, p.addr)
		_, err := c.Write([]byte("request"))
		require.NoError(t, err)
		p.awaitStatistics(t, " 1 open;")
		require.Greater(t, sockets(), before+2) // both ends here, and the dialed one
		require.NoError(t, c.SetLinger(0))
		require.NoError(t, c.Close())
		p.awaitStatistics(t, " 0 open;")
	}
	for begin := time.Now(); sockets() > before; {
		require.Less(t, time.Since(begin), limit)
	}
	require.Equal(t, "5 connections, 0 open; 0 refused, 0 without a backend, 0 cut; 0 bytes up, 0 down\n", p.ends(t))
	require.Empty(t, p.log.String())
}

// A client that closes its connection in order while its backend is being dialed may be one
// that has only sent its last request. So the backend is dialed, and gets what was sent.
func TestProxy_ClientClosesWhileDialing(t *testing.T) {
	l := unanswered(t)
	p := started(t, "-connect", "1m", "-grace", "1h", l.Addr().String())
	c := dial(t, p.addr)
	_, err := c.Write([]byte("request"))
	require.NoError(t, err)
	p.awaitStatistics(t, " 1 open;")
	require.NoError(t, c.Close())
	require.NoError(t, l.SetDeadline(time.Now().Add(limit)))
	for got := ""; got != "request"; { // those that filled the backlog come first
		in, err := l.AcceptTCP()
		require.NoError(t, err)
		require.NoError(t, in.SetDeadline(time.Now().Add(limit)))
		all, err := io.ReadAll(in)
		require.NoError(t, err)
		got = string(all)
		require.NoError(t, in.Close())
	}
	p.awaitStatistics(t, " 0 open;")
	require.Contains(t, p.ends(t), "1 connections, 0 open; 0 refused, 0 without a backend, 0 cut; 7 bytes up, 0 down")
}

// A backend that does not answer is left out after the time limit, and its client goes to
// another one.
func TestProxy_UnansweringBackend(t *testing.T) {
	l := unanswered(t)
	other := backendAt(t, "127.0.0.1:0", names("other"))
	p := started(t, "-connect", "50ms", "-retry", "1h", l.Addr().String(), other.Addr().String())
	for range 3 {
		require.Equal(t, "other", ask(t, p.addr))
	}
	require.Equal(t, 1, strings.Count(p.log.String(), "is left out"), p.log.String())
	require.Contains(t, p.log.String(), l.Addr().String()+" is left out for 1h0m0s: ")
	require.Contains(t, p.ends(t), "3 connections, 0 open; 0 refused, 0 without a backend, 0 cut")
}

// When the program says that it listens, a signal already prints its statistics.
func TestProxy_SignalAfterFirstLine(t *testing.T) {
	for range 20 {
		p := started(t, "127.0.0.1:1")
		p.awaitStatistics(t, "0 connections, ")
		p.ends(t)
	}
}
