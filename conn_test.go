//go:build unix || windows

package epore_test

import (
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

const connRule = "Source: net's connections and os.File register as they are, and stay usable"

// link is both ends of something that package net or os created.
type link struct {
	here  io.ReadWriteCloser // registered
	there io.ReadWriteCloser
}

func tcpLink(t *testing.T) link {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	here, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	there, err := l.Accept()
	require.NoError(t, err)
	return link{here, there}
}

func unixLink(t *testing.T) link {
	if !fixture.UnixSockets() {
		t.Skip("this system has no Unix sockets")
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	defer l.Close()
	here, err := net.Dial("unix", l.Addr().String())
	require.NoError(t, err)
	there, err := l.Accept()
	require.NoError(t, err)
	return link{here, there}
}

func udpLink(t *testing.T) link {
	here, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	there, err := net.DialUDP("udp", nil, here.LocalAddr().(*net.UDPAddr))
	require.NoError(t, err)
	return link{here, there}
}

func pipeLink(t *testing.T) link {
	if runtime.GOOS == "windows" {
		t.Skip("pipes are no sources on Windows")
	}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	return link{r, w}
}

var links = map[string]func(*testing.T) link{"TCPConn": tcpLink, "UnixConn": unixLink, "UDPConn": udpLink, "File": pipeLink}

// contract: D1
func TestRegister_NetConns(t *testing.T) {
	for name, make := range links {
		t.Run(name, func(t *testing.T) {
			eachStrategy(t, connRule, func(t *testing.T, p *epore.Poll) {
				l := make(t)
				defer l.here.Close()
				defer l.there.Close()
				source := l.here.(epore.Source)
				r := p.Registry()
				events := epore.NewEvents(4)

				require.NoError(t, r.Register(source, 1, epore.Readable))
				require.ErrorIs(t, r.Register(source, 2, epore.Readable), fs.ErrExist)
				require.Empty(t, ready(t, p, events))
				buf := make8()
				for range 20 {
					_, err := l.there.Write([]byte("ping"))
					require.NoError(t, err)
					require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, next(t, p, events))
					n, err := l.here.Read(buf) // through package net, as ever
					require.NoError(t, err)
					require.Equal(t, "ping", string(buf[:n]))
				}
				require.NoError(t, r.Reregister(source, 3, epore.Readable|edge(p)))
				require.NoError(t, r.Deregister(source))
				require.ErrorIs(t, r.Deregister(source), fs.ErrNotExist)

				// Waiting in the runtime still works.
				go func() { _, _ = l.there.Write([]byte("pong")) }()
				n, err := l.here.Read(buf)
				require.NoError(t, err)
				require.Equal(t, "pong", string(buf[:n]))
				if d, ok := l.here.(interface{ SetReadDeadline(time.Time) error }); ok {
					require.NoError(t, d.SetReadDeadline(time.Now().Add(time.Millisecond)))
					_, err := l.here.Read(buf)
					require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				}
			})
		})
	}
}

func make8() []byte { return make([]byte, 8) }

// contract: D1
func TestRegister_NetListener(t *testing.T) {
	eachStrategy(t, connRule, func(t *testing.T, p *epore.Poll) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		events := epore.NewEvents(4)
		require.NoError(t, p.Registry().Register(l.(*net.TCPListener), 1, epore.Readable))
		for range 5 {
			c, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, next(t, p, events))
			s, err := l.Accept()
			require.NoError(t, err)
			require.NoError(t, s.Close())
			require.NoError(t, c.Close())
		}
	})
}

// contract: R4, R8, E1
func TestRegister_ClosedConns(t *testing.T) {
	for name, make := range links {
		t.Run(name, func(t *testing.T) {
			guard(t, "R8: a closed source is refused with net.ErrClosed; R4: what is closed is not registered")
			p := open(t)
			r := p.Registry()
			l := make(t)
			defer l.there.Close()
			source := l.here.(epore.Source)
			require.NoError(t, r.Register(source, 1, epore.Readable))
			require.NoError(t, l.here.Close())
			for op, err := range map[string]error{
				"register":   r.Register(source, 2, epore.Readable),
				"reregister": r.Reregister(source, 2, epore.Readable),
				"deregister": r.Deregister(source),
			} {
				require.ErrorIs(t, err, net.ErrClosed, op)
				require.NotErrorIs(t, err, epore.ErrClosed, "the Poll is not")
				if op != "register" {
					require.ErrorIs(t, err, fs.ErrNotExist, op)
				}
				require.ErrorContains(t, err, "epore: "+op)
				require.ErrorContains(t, err, name)
				require.ErrorContains(t, err, "the source is closed")
			}
			require.Empty(t, tokens(t, p))
			require.NoError(t, p.Close())
			require.ErrorIs(t, r.Deregister(source), epore.ErrClosed, "now it is")
		})
	}
}

// contract: R8
func TestRegister_ConnsClosedBefore(t *testing.T) {
	guard(t, "R8: a closed source is refused with net.ErrClosed")
	p := open(t)
	check := func(name string, c io.Closer) {
		require.NoError(t, c.Close())
		err := p.Registry().Register(c.(epore.Source), 1, epore.Readable)
		require.ErrorIs(t, err, net.ErrClosed, name)
		require.NotErrorIs(t, err, fs.ErrNotExist, name)
	}
	for name, make := range links {
		t.Run(name, func(t *testing.T) {
			l := make(t)
			defer l.there.Close()
			check(name, l.here)
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	check("TCPListener", l)
	require.Empty(t, tokens(t, p))
}

// contract: R8
func TestRegister_RegularFilesAreRefused(t *testing.T) {
	p := open(t)
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer f.Close()
	dir, err := os.Open(t.TempDir())
	require.NoError(t, err)
	defer dir.Close()
	for _, f := range []*os.File{f, dir} {
		require.ErrorIs(t, p.Registry().Register(f, 1, epore.Readable), epore.ErrNotPollable)
	}
}
