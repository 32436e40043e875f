//go:build unix || windows

package loop_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/loop"
	"github.com/epore/epore/socket"
)

// dialTLS shakes hands with a server.
func dialTLS(t testing.TB, addr string, change func(*tls.Config)) *tls.Conn {
	t.Helper()
	conf := clientTLS()
	if change != nil {
		change(conf)
	}
	c := tls.Client(dial(t, addr), conf)
	require.NoError(t, c.Handshake())
	return c
}

// contract: L14
func TestTLS_BothSidesOnLoops(t *testing.T) {
	eachQueue(t, "a loop is server and client of TLS", func(t *testing.T, open newPoll) {
		data := random(3 << 20)
		var got bytes.Buffer
		closed := make(told, 1)
		server := &handler{data: func(c *loop.Conn, b []byte) int {
			require.Equal(t, uint16(tls.VersionTLS13), c.TLS().Version)
			_, err := c.Write(b)
			require.NoError(t, err)
			return len(b)
		}}
		sent := 0
		fill := func(c *loop.Conn) {
			for sent < len(data) {
				n, err := c.Write(data[sent:min(len(data), sent+50_000)])
				if err != nil {
					require.Equal(t, loop.ErrFull, err)
					return
				}
				sent += n
			}
			c.CloseWrite()
		}
		client := &withDrained{
			handler: &handler{
				open:  func(c *loop.Conn) { require.Equal(t, "example.test", c.TLS().PeerCertificates[0].DNSNames[0]); fill(c) },
				data:  func(_ *loop.Conn, b []byte) int { got.Write(b); return len(b) },
				close: closed.close, failed: closed.close,
			},
			drained: fill,
		}
		s := serve(t, 1, loop.Config{NewPoll: open, MaxOut: 500_000}, serverTLS(), server)
		conf := clientTLS()
		conf.ServerName = "" // the address, then, for which there is a certificate
		s.on(func() {
			c, err := s.loops[0].Dial("tcp", s.addr, time.Minute, conf, client)
			require.NoError(t, err)
			require.Zero(t, c.TLS().Version)
		})
		require.NoError(t, closed.get(t))
		require.True(t, bytes.Equal(data, got.Bytes()))
	})
}

// Many small records come in one event, and those that crypto/tls has are not forgotten.
// contract: L14
func TestTLS_NothingIsForgotten(t *testing.T) {
	eachQueue(t, "what crypto/tls has read is handled without a further event", func(t *testing.T, open newPoll) {
		h := new(echo)
		s := serve(t, 1, loop.Config{NewPoll: open}, serverTLS(), h)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			raw := dial(t, s.addr)
			gathered := &gather{Conn: raw}
			c := tls.Client(gathered, clientTLS())
			require.NoError(t, c.Handshake())
			gathered.hold = true
			want := random(5_000 * 9)
			for i := range 5_000 {
				_, err := c.Write(want[i*9 : i*9+9])
				require.NoError(t, err)
			}
			require.NoError(t, c.CloseWrite())
			gathered.hold = false
			require.NoError(t, raw.SetWriteDeadline(time.Time{})) // crypto/tls sets one
			_, err := raw.Write(gathered.held)
			require.NoError(t, err)
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got), "%d bytes, %x", len(got), version)
			require.NoError(t, c.Close())
		}
		await(t, "Close", func() bool { return h.closed.Load() == 2 })
		for _, err := range h.errs {
			require.NoError(t, err)
		}
	})
}

// gather keeps what is written until all of it is to be sent at once.
type gather struct {
	net.Conn
	hold bool
	held []byte
}

func (g *gather) Write(b []byte) (int, error) {
	if !g.hold {
		return g.Conn.Write(b)
	}
	g.held = append(g.held, b...)
	return len(b), nil
}

// A paused connection with data inside crypto/tls goes on after Resume.
// contract: L14
func TestTLS_Resume(t *testing.T) {
	eachQueue(t, "Resume finds what crypto/tls has", func(t *testing.T, open newPoll) {
		var got []byte
		done := make(chan struct{})
		var conn *loop.Conn
		h := &handler{
			open: func(c *loop.Conn) { conn = c; c.Pause() },
			data: func(c *loop.Conn, b []byte) int {
				got = append(got, b[0])
				c.Pause()
				if b[0] == 'c' {
					close(done)
				}
				return 1
			},
		}
		s := serve(t, 1, loop.Config{NewPoll: open}, serverTLS(), h)
		raw := &gather{Conn: dial(t, s.addr)}
		c := tls.Client(raw, clientTLS())
		require.NoError(t, c.Handshake())
		raw.hold = true
		for _, text := range []string{"a", "b", "c"} {
			_, err := c.Write([]byte(text))
			require.NoError(t, err)
		}
		_, err := raw.Conn.Write(raw.held)
		require.NoError(t, err)
		await(t, "it is open", func() (is bool) { s.on(func() { is = conn != nil }); return is })
		for {
			select {
			case <-done:
				s.on(func() { require.Equal(t, "abc", string(got)) })
				return
			default:
				s.on(func() { conn.Resume() })
			}
		}
	})
}

// Bad input in the place of TLS: each ends with an error that says what happened, and to whom.
// contract: L1, L7, E1
func TestTLS_BadPeers(t *testing.T) {
	eachQueue(t, "a handshake that fails is told, and leaves nothing", func(t *testing.T, open newPoll) {
		const never, soon = time.Minute, 100 * time.Millisecond
		for name, peer := range map[string]struct {
			limit time.Duration // of the handshake: a busy machine must not exceed the first
			do    func(t *testing.T, c *net.TCPConn)
			want  func(err error) bool
		}{
			"garbage": {
				never,
				func(t *testing.T, c *net.TCPConn) {
					_, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: example.test\r\n\r\n"))
					require.NoError(t, err)
				},
				func(err error) bool { return strings.Contains(err.Error(), "does not look like a TLS handshake") },
			},
			"an end in the middle": {
				never,
				func(t *testing.T, c *net.TCPConn) {
					_, err := c.Write([]byte{22, 3, 1, 2, 0, 1})
					require.NoError(t, err)
					require.NoError(t, c.CloseWrite())
				},
				func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) },
			},
			"a reset in the middle": {
				never,
				func(t *testing.T, c *net.TCPConn) {
					_, err := c.Write([]byte{22, 3, 1, 2, 0, 1})
					require.NoError(t, err)
					require.NoError(t, c.SetLinger(0))
					require.NoError(t, c.Close())
				},
				func(err error) bool { return !errors.Is(err, io.EOF) },
			},
			"silence": {
				soon,
				func(*testing.T, *net.TCPConn) {},
				func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) },
			},
			"one byte now and then": {
				soon,
				func(t *testing.T, c *net.TCPConn) {
					go func() {
						for range 10_000 {
							if _, err := c.Write([]byte{22}); err != nil {
								return
							}
							time.Sleep(time.Millisecond)
						}
					}()
				},
				func(err error) bool { return err != nil },
			},
		} {
			h := new(echo)
			s := serve(t, 1, loop.Config{NewPoll: open, Handshake: peer.limit}, serverTLS(), h)
			c := dial(t, s.addr)
			client := c.LocalAddr().String()
			peer.do(t, c)
			await(t, name, func() bool { return h.failures.Load() == 1 })
			require.True(t, peer.want(h.only(t)), "%s: %v", name, h.errs)
			if name != "a reset in the middle" { // it may come before Accept: see TestTLS_FailureNamesThePeer
				require.ErrorContains(t, h.only(t), "accept tcp "+s.addr+"->"+client+": ", name)
			}
			require.Zero(t, h.opened.Load())
			require.NoError(t, s.end())
		}
	})
}

// A stream that is cut off is told from one that has ended.
// contract: L6
func TestTLS_Truncated(t *testing.T) {
	guard(t, "a truncated stream is an error")
	h := new(echo)
	s := serve(t, 1, loop.Config{}, serverTLS(), h)
	c := dialTLS(t, s.addr, nil)
	ask(t, c, "hello")
	require.NoError(t, c.NetConn().(*net.TCPConn).CloseWrite())
	await(t, "Close", func() bool { return h.closed.Load() == 1 })
	require.ErrorIs(t, h.only(t), io.ErrUnexpectedEOF)

	h = new(echo)
	s = serve(t, 1, loop.Config{}, serverTLS(), h)
	c = dialTLS(t, s.addr, nil)
	ask(t, c, "hello")
	require.NoError(t, c.Close())
	await(t, "Close", func() bool { return h.closed.Load() == 1 })
	require.NoError(t, h.only(t))
}

// Closing sends everything, and then close_notify.
// contract: L6
func TestTLS_Close(t *testing.T) {
	eachQueue(t, "Close sends what was written, and close_notify", func(t *testing.T, open newPoll) {
		answer := random(700 << 10)
		closed := make(told, 1)
		h := &handler{
			data: func(c *loop.Conn, b []byte) int {
				_, err := c.Write(answer)
				require.NoError(t, err)
				_, _, _, err = c.Detach()
				require.ErrorIs(t, err, errors.ErrUnsupported)
				c.Close()
				return len(b)
			},
			close: closed.close,
		}
		s := serve(t, 1, loop.Config{NewPoll: open, Grace: time.Minute}, serverTLS(), h)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c := dialTLS(t, s.addr, func(conf *tls.Config) { conf.MaxVersion = version })
			_, err := c.Write([]byte("x"))
			require.NoError(t, err)
			got, err := io.ReadAll(c)
			require.NoError(t, err, "close_notify")
			require.True(t, bytes.Equal(answer, got))
			require.NoError(t, c.Close())
			require.NoError(t, closed.get(t))
		}
	})
}

// A peer that is told nothing but the end: CloseWrite leaves the other half open.
// contract: L6
func TestTLS_CloseWrite(t *testing.T) {
	guard(t, "CloseWrite ends one half")
	got, closed := make(chan string, 1), make(told, 1)
	h := &handler{
		open:  func(c *loop.Conn) { _, _ = c.Write([]byte("bye")); c.CloseWrite() },
		data:  func(_ *loop.Conn, b []byte) int { got <- string(b); return len(b) },
		close: closed.close,
	}
	s := serve(t, 1, loop.Config{}, serverTLS(), h)
	c := dialTLS(t, s.addr, nil)
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "bye", string(all))
	_, err = c.Write([]byte("still heard"))
	require.NoError(t, err)
	require.Equal(t, "still heard", <-got)
	require.NoError(t, c.Close())
	require.NoError(t, closed.get(t))
}

// A client that does not trust the server is told to Failed or Close, with its alert.
// contract: L6
func TestTLS_Alert(t *testing.T) {
	guard(t, "the peer's alert is the error")
	h, failed := new(echo), make(told, 1)
	s := serve(t, 1, loop.Config{}, serverTLS(), h)
	s.on(func() {
		_, err := s.loops[0].Dial("tcp", s.addr, time.Minute, &tls.Config{ServerName: "another.test", RootCAs: certs().pool}, &handler{failed: failed.close})
		require.NoError(t, err)
	})
	require.ErrorAs(t, failed.get(t), new(*tls.CertificateVerificationError))
	await(t, "the server hears of it", func() bool { return h.closed.Load()+h.failures.Load() == 1 })
	require.ErrorContains(t, h.only(t), "bad certificate")
}

// After a reset, some systems no longer know the peer.
// contract: E1
func TestTLS_FailureNamesThePeer(t *testing.T) {
	eachQueue(t, "the error of a handshake names both ends, even after a reset", func(t *testing.T, open newPoll) {
		client := make(chan *net.TCPConn, 1)
		conf := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := <-client // the handshake has begun, so it was accepted
			return serverTLS(), errors.Join(c.SetLinger(0), c.Close())
		}}
		h := new(echo)
		s := serve(t, 1, loop.Config{NewPoll: open}, conf, h)
		c := dial(t, s.addr)
		want := c.LocalAddr().String() + ": " // some systems no longer know the local address either
		client <- c
		require.Error(t, tls.Client(c, clientTLS()).Handshake())
		await(t, "it fails", func() bool { return h.failures.Load() == 1 })
		require.ErrorContains(t, h.only(t), want)

		// The client's side, and a socket that the loop has adopted.
		failed := make(told, 1)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { require.NoError(t, l.Close()) }()
		s.on(func() {
			_, err := s.loops[0].Dial("tcp", l.Addr().String(), time.Minute, clientTLS(), &handler{failed: failed.close})
			require.NoError(t, err)
		})
		garbler, err := l.Accept()
		require.NoError(t, err)
		_, err = garbler.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		require.NoError(t, err)
		require.ErrorContains(t, failed.get(t), "dial tcp "+garbler.RemoteAddr().String()+"->"+l.Addr().String()+": ")
		require.NoError(t, garbler.Close())

		sock, err := socket.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		garbler, err = l.Accept()
		require.NoError(t, err)
		s.on(func() {
			_, err := s.loops[0].Adopt(sock, serverTLS(), &handler{failed: failed.close})
			require.NoError(t, err)
		})
		_, err = garbler.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		require.NoError(t, err)
		require.ErrorContains(t, failed.get(t), "adopt tcp "+garbler.RemoteAddr().String()+"->"+l.Addr().String()+": ")
		require.NoError(t, garbler.Close())
	})
}
