//go:build unix || windows

package epore_test

import (
	"io/fs"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

// pairOfConns returns both ends of a connection of package net.
func pairOfConns(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer l.Close()
	client, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	server, err = l.AcceptTCP()
	require.NoError(t, err)
	return client, server
}

// collectGarbage returns when the garbage collector has finished, and has run the finalizers and
// cleanups of what was unreachable.
func collectGarbage() {
	for range 3 {
		done := make(chan struct{})
		x := new([64]byte)
		runtime.SetFinalizer(x, func(*[64]byte) { close(done) })
		x = nil
		runtime.GC()
		<-done
	}
}

// A connection that only the Poll refers to stays open. Without that, its finalizer closes
// it, and its events silently end.
// contract: R15
func TestRegister_KeepsTheSourceAlive(t *testing.T) {
	eachStrategy(t, "R15: a registered source is kept alive until Deregister", func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(4)
		client := func() *net.TCPConn {
			client, server := pairOfConns(t)
			require.NoError(t, p.Registry().Register(server, 7, epore.Readable))
			return client
		}()
		collectGarbage()
		_, err := client.Write([]byte("x"))
		require.NoError(t, err)
		require.Equal(t, epore.Token(7), next(t, p, events)[0].Token)
		require.True(t, events.Len() == 1 && !all(events)[0].ReadClosed(), "it was not closed")
	})
}

// The Poll lets go of a source that is deregistered, or was closed and replaced by another
// source, and of all sources when it is closed.
// contract: R15
func TestRegister_LetsTheSourceGo(t *testing.T) {
	guard(t, "R15: a source is let go by Deregister, when its number is registered for another source, and by Close")
	for name, end := range map[string]func(t *testing.T, p *epore.Poll, s *os.File, other *fixture.End){
		"deregistered": func(t *testing.T, p *epore.Poll, s *os.File, _ *fixture.End) {
			require.NoError(t, p.Registry().Deregister(s))
		},
		"closed, and its number taken": func(t *testing.T, p *epore.Poll, s *os.File, other *fixture.End) {
			fd := int(s.Fd())
			require.NoError(t, s.Close())
			moved := other.TryMoveTo(fd)
			require.NoError(t, p.Registry().Register(epore.FD(moved.FD), 8, epore.Readable))
			t.Cleanup(moved.Close)
		},
		"the Poll closed": func(t *testing.T, p *epore.Poll, s *os.File, _ *fixture.End) {
			require.NoError(t, p.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t)
			if runtime.GOOS == "windows" {
				t.Skip("pipes cannot be registered here")
			}
			freed := make(chan struct{})
			func() {
				r, w, err := os.Pipe()
				require.NoError(t, err)
				t.Cleanup(func() { w.Close() })
				other, there := fixture.Pair(t)
				_ = there
				kept := new([64]byte)
				runtime.AddCleanup(kept, func(freed chan struct{}) { close(freed) }, freed)
				s := &sourceWith{r, kept}
				require.NoError(t, p.Registry().Register(s, 7, epore.Readable))
				collectGarbage()
				select {
				case <-freed:
					t.Error("let go while registered")
				default:
				}
				end(t, p, r, other)
			}()
			for open := true; open; {
				collectGarbage()
				select {
				case <-freed:
					open = false
				default:
				}
			}
			runtime.KeepAlive(p)
		})
	}
}

// sourceWith is a file together with an object that shows when it is collected.
type sourceWith struct {
	*os.File
	kept *[64]byte
}

// contract: R11
func TestRegistry_TheLentOneCannotBeClosed(t *testing.T) {
	eachStrategy(t, "R11: closing the Registry that the Poll lends is an error that changes nothing", func(t *testing.T, p *epore.Poll) {
		a, b := fixture.Pair(t)
		register(t, p, a, 1, epore.Readable)
		err := p.Registry().Close()
		require.ErrorIs(t, err, fs.ErrInvalid)
		require.ErrorContains(t, err, "TryClone")
		b.Write("x")
		require.Equal(t, epore.Token(1), next(t, p, epore.NewEvents(2))[0].Token)
		require.NoError(t, p.Registry().Deregister(fd(a)))
		register(t, p, a, 2, epore.Readable)
		clone, err := p.Registry().TryClone()
		require.NoError(t, err)
		require.NoError(t, clone.Close())
		require.NoError(t, clone.Close(), "again")
		require.ErrorIs(t, clone.Deregister(fd(a)), epore.ErrClosed)
	})
}

// warnings receives the lines of a logger.
type warnings chan string

func (w warnings) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}

// A Poll that is collected without Close is a leak of descriptors. It is logged once.
// contract: E5
func TestPoll_CollectedWithoutCloseIsLogged(t *testing.T) {
	guard(t, "E5: a Poll that is garbage collected without Close is logged, once")
	lines := make(warnings, 10)
	log := hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: lines})
	make := func(close bool) {
		p, err := epore.NewWith(backendtest.NewFake(), epore.WithLogger(log))
		require.NoError(t, err)
		require.NoError(t, p.Registry().Register(epore.FD(1), 1, epore.Readable))
		_, err = epore.NewTimer(p.Registry(), 2)
		require.NoError(t, err)
		require.NoError(t, p.Poll(epore.NewEvents(1), 0))
		if close {
			require.NoError(t, p.Close())
		}
	}
	make(true)
	make(false)
	for len(lines) == 0 {
		collectGarbage()
	}
	require.Contains(t, <-lines, "without being closed")
	collectGarbage()
	require.Empty(t, lines, "the closed one is no leak")
}
