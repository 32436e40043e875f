//go:build unix || windows

package tlsconn_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
	"github.com/epore/epore/tlsconn"
)

// The foundation of the package: see "What it rests on" in its comment.
// contract: T1
func TestCryptoTLS_KeepsNoTemporaryErrors(t *testing.T) {
	eachVersion(t, "Read goes on after ErrWouldBlock", func(t *testing.T, version uint16) {
		w := established(t, version)
		_, err := read(t, w.server, 64)
		require.Equal(t, socket.ErrWouldBlock, err)
		_, err = w.client.Write([]byte("in two parts"))
		require.NoError(t, err)
		w.toServer(t, 7)
		_, err = read(t, w.server, 64)
		require.Equal(t, socket.ErrWouldBlock, err)
		w.all(t)
		got, err := read(t, w.server, 64)
		require.Equal(t, "in two parts", string(got),
			"this release of crypto/tls keeps an error of Read although its Temporary() is true: "+
				"tlsconn.Conn.Read rests on the opposite, and does not work with it")
		require.Equal(t, socket.ErrWouldBlock, err)
	})
}

// An echo through a Poll with crypto/tls over package net at the other end.
// contract: T2
func TestConn_EchoOnEachQueue(t *testing.T) {
	eachQueue(t, "a stream arrives as it was sent", func(t *testing.T, p *epore.Poll) {
		for _, version := range versions {
			for side, role := range []string{"server", "client"} {
				sock, peer := tcp(t)
				c, other := tlsconn.Server(sock, serverConfig(version)), tls.Client(peer, clientConfig(version))
				if side == 1 {
					c, other = tlsconn.Client(sock, clientConfig(version)), tls.Server(peer, serverConfig(version))
				}
				data := random(300 << 10)
				sent := make(chan error, 1)
				received := make(chan []byte, 1)
				go func() {
					_, err := other.Write(data)
					sent <- errors.Join(err, other.CloseWrite())
				}()
				go func() {
					got, _ := io.ReadAll(io.LimitReader(other, int64(len(data))))
					received <- got
				}()
				drive(t, p, c, echo(t, c))
				drive(t, p, c, func() bool { return c.Buffered() == 0 })
				require.NoError(t, <-sent)
				require.True(t, bytes.Equal(data, <-received), "%s, %s", tls.VersionName(version), role)
				require.Equal(t, version, c.ConnectionState().Version)
				require.NoError(t, c.Close())
				_, err := other.Read(make([]byte, 1))
				require.Equal(t, io.EOF, err, "close_notify")
				require.NoError(t, other.Close())
			}
		}
	})
}

// contract: T1
func TestConn_WhatIsAgreedOn(t *testing.T) {
	eachVersion(t, "client certificates, ALPN, SNI and resumption work", func(t *testing.T, version uint16) {
		server, client := serverConfig(version), clientConfig(version)
		server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, theAuthority().pool
		server.NextProtos = []string{"h2", "epore/1"}
		var named string
		server.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			named = h.ServerName
			cert := ecdsaCert()
			return &cert, nil
		}
		client.Certificates = []tls.Certificate{ecdsaCert()}
		client.NextProtos = []string{"epore/1"}
		client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		for round := range 2 {
			w := newWire(t, client, server)
			require.Zero(t, w.server.ConnectionState().Version)
			require.Equal(t, socket.ErrWouldBlock, w.server.Handshake())
			require.Zero(t, w.server.ConnectionState().Version, "and it does not wait for the handshake")
			w.establish(t)
			_, err := w.server.Write([]byte("x"))
			require.NoError(t, err)
			w.all(t)
			got, err := read(t, w.client, 9)
			require.Equal(t, "x", string(got))
			require.Equal(t, socket.ErrWouldBlock, err)
			s := w.server.ConnectionState()
			require.Equal(t, version, s.Version)
			require.Equal(t, "epore/1", s.NegotiatedProtocol)
			require.Equal(t, "example.test", s.ServerName)
			require.Len(t, s.PeerCertificates, 1)
			require.Equal(t, round == 1, s.DidResume)
			require.Equal(t, round == 1, w.client.ConnectionState().DidResume)
		}
		require.Equal(t, "example.test", named)
	})
}

// contract: T1
func TestConn_RefusesRenegotiation(t *testing.T) {
	a, b := pair(t)
	config := clientConfig(tls.VersionTLS12)
	config.Renegotiation = tls.RenegotiateOnceAsClient
	c := tlsconn.Client(a, config)
	for range 2 {
		err := c.Handshake()
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, "RenegotiateNever")
	}
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = b.Read(make([]byte, 1))
	require.Equal(t, socket.ErrWouldBlock, err, "nothing was sent")
}

// Everything that was read from the socket comes without a further event.
// contract: T4
func TestConn_ManyRecordsInOneSegment(t *testing.T) {
	eachVersion(t, "a reader that takes one byte at a time gets all", func(t *testing.T, version uint16) {
		w := established(t, version)
		var want []byte
		for i := range 200 { // fewer than a Unix socket takes
			want = append(want, byte(i))
			_, err := w.client.Write(want[i:])
			require.NoError(t, err)
		}
		w.all(t)
		require.True(t, w.server.Pending(), "after the handshake")
		got, err := read(t, w.server, 1)
		require.Equal(t, socket.ErrWouldBlock, err)
		require.Equal(t, want, got)
		require.False(t, w.server.Pending())

		_, err = w.client.Write(want)
		require.NoError(t, err)
		w.all(t)
		for i := range want {
			buf := make([]byte, 1)
			n, err := w.server.Read(buf)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.Equal(t, want[i], buf[0])
			require.True(t, w.server.Pending(), "byte %d", i)
		}

		// One record, or part of one, that is used up: nothing is pending.
		_, err = read(t, w.server, 1)
		require.Equal(t, socket.ErrWouldBlock, err)
		for _, next := range []int{0, 3, 7} { // as much of the record that follows
			_, err = w.client.Write([]byte("one record"))
			require.NoError(t, err)
			w.toServer(t, 1<<10)
			_, err = w.client.Write([]byte("another"))
			require.NoError(t, err)
			w.toServer(t, next)
			n, err := w.server.Read(make([]byte, 99))
			require.NoError(t, err)
			require.Equal(t, len("one record"), n)
			require.False(t, w.server.Pending())
			w.all(t)
			n, err = w.server.Read(make([]byte, 7))
			require.NoError(t, err)
			require.Equal(t, 7, n)
			require.True(t, w.server.Pending(), "it has filled the buffer")
			_, err = read(t, w.server, 9)
			require.Equal(t, socket.ErrWouldBlock, err)
		}
	})
}

// contract: T2
func TestConn_RecordCutAtEveryByte(t *testing.T) {
	eachVersion(t, "a record in two parts is read when the second has come", func(t *testing.T, version uint16) {
		w := established(t, version)
		read(t, w.client, 99)
		read(t, w.server, 99)
		for cut := 1; ; cut++ {
			_, err := w.client.Write([]byte("hello"))
			require.NoError(t, err)
			w.toServer(t, cut)
			got, err := read(t, w.server, 99)
			require.Equal(t, socket.ErrWouldBlock, err)
			rest := w.toServer(t, 1<<10)
			if rest == 0 {
				require.Equal(t, "hello", string(got))
				break
			}
			require.Empty(t, got, "cut at %d", cut)
			got, err = read(t, w.server, 99)
			require.Equal(t, "hello", string(got), "cut at %d", cut)
			require.Equal(t, socket.ErrWouldBlock, err)
		}
		// The alert behind data is cut, too.
		for cut := 1; cut < 20; cut++ {
			w := established(t, version)
			read(t, w.server, 99)
			_, err := w.client.Write([]byte("bye"))
			require.NoError(t, err)
			whole := w.toServer(t, 1<<10)
			require.NotZero(t, whole)
			require.NoError(t, w.client.CloseWrite())
			w.toServer(t, cut)
			got, err := read(t, w.server, 99)
			require.Equal(t, "bye", string(got))
			require.Equal(t, socket.ErrWouldBlock, err, "cut at %d", cut)
			w.all(t)
			_, err = read(t, w.server, 99)
			require.Equal(t, io.EOF, err, "cut at %d", cut)
		}
	})
}

// The handshake itself, one byte at a time in both directions.
// contract: T2
func TestConn_HandshakeByteByByte(t *testing.T) {
	eachVersion(t, "a handshake ends however it is cut", func(t *testing.T, version uint16) {
		w := newWire(t, clientConfig(version), serverConfig(version))
		piece := 1
		if runtime.GOOS == "windows" { // where the test waits for each piece to travel
			piece = 100
		}
		for range 100000 {
			cerr, serr := w.client.Handshake(), w.server.Handshake()
			if cerr == nil && serr == nil {
				require.Equal(t, version, w.client.ConnectionState().Version)
				return
			}
			for _, err := range []error{cerr, serr} {
				if err != nil {
					require.Equal(t, socket.ErrWouldBlock, err)
				}
			}
			w.toServer(t, piece)
			w.toClient(t, piece)
		}
		require.Fail(t, "it has no end")
	})
}

// contract: T3
func TestConn_PeerThatNeverReads(t *testing.T) {
	eachVersion(t, "Write takes everything, and Buffered says how much was not sent", func(t *testing.T, version uint16) {
		w := established(t, version)
		data := random(1 << 20)
		var sent, times int
		for ; w.server.Buffered() < 3<<20; times++ {
			n, err := w.server.Write(data)
			require.NoError(t, err)
			sent += n
		}
		require.Equal(t, socket.ErrWouldBlock, w.server.Flush())
		_, err := w.client.Write([]byte("still read"))
		require.NoError(t, err)
		w.toServer(t, 1<<10)
		got, err := read(t, w.server, 99)
		require.Equal(t, "still read", string(got))
		require.Equal(t, socket.ErrWouldBlock, err)

		want := bytes.Repeat(data, times)
		require.Len(t, want, sent)
		w.clientReads(t, want)
		require.NoError(t, w.server.Flush())
	})
}

// A small Write goes to the socket without a copy. What the socket does not accept must still
// leave in order, and an error must stay.
//
// contract: T3
func TestConn_SmallWrites(t *testing.T) {
	eachVersion(t, "small writes are sent at once, stay in order when the socket is full, and fail for good", func(t *testing.T, version uint16) {
		w := established(t, version)
		var want []byte
		for i := 0; w.server.Buffered() < 64<<10; i++ {
			b := random(1 + i%1500)
			n, err := w.server.Write(b)
			require.NoError(t, err)
			require.Equal(t, len(b), n)
			want = append(want, b...)
			if i == 0 {
				require.Zero(t, w.server.Buffered())
			}
		}
		require.Equal(t, socket.ErrWouldBlock, w.server.Flush())
		w.clientReads(t, want)

		require.NoError(t, w.server.Socket().CloseWrite())
		_, first := w.server.Write([]byte("x"))
		require.Error(t, first)
		require.Zero(t, w.server.Buffered())
		_, err := w.server.Write([]byte("x"))
		require.ErrorIs(t, err, first)
		require.Equal(t, first, w.server.Flush())
	})
}

// contract: T5
func TestConn_CloseNotifyInEachOrder(t *testing.T) {
	eachVersion(t, "each side says that it has ended, and hears it of the other", func(t *testing.T, version uint16) {
		for _, first := range []string{"client", "server", "both"} {
			w := established(t, version)
			a, b := w.client, w.server
			if first == "server" {
				a, b = b, a
			}
			_, err := a.Write([]byte("last words"))
			require.NoError(t, err)
			require.NoError(t, a.CloseWrite())
			require.NoError(t, a.CloseWrite(), "again")
			_, err = a.Write([]byte("x"))
			require.Error(t, err)
			if first == "both" {
				require.NoError(t, b.CloseWrite())
			}
			w.all(t)
			got, err := read(t, b, 99)
			require.Equal(t, "last words", string(got))
			require.Equal(t, io.EOF, err)
			if first != "both" {
				_, err = read(t, a, 99)
				require.Equal(t, socket.ErrWouldBlock, err, "the other direction goes on")
				_, err = b.Write([]byte("answer"))
				require.NoError(t, err)
				require.NoError(t, b.CloseWrite())
				w.all(t)
				got, err = read(t, a, 99)
				require.Equal(t, "answer", string(got))
			} else {
				_, err = read(t, a, 99)
			}
			require.Equal(t, io.EOF, err)
			require.NoError(t, a.Close())
			require.NoError(t, b.Close())
			require.ErrorIs(t, a.Close(), net.ErrClosed)
		}
	})
}

// contract: T5
func TestConn_TruncatedStream(t *testing.T) {
	eachVersion(t, "a stream that is cut off is no proper end", func(t *testing.T, version uint16) {
		for _, cut := range []int{0, 1, 4, 5, 6, 20} { // 0: between records
			w := established(t, version)
			read(t, w.server, 99)
			if cut > 0 {
				_, err := w.client.Write([]byte("this is cut"))
				require.NoError(t, err)
				w.toServer(t, cut)
			}
			require.NoError(t, w.far.CloseWrite())
			travelled(t, w.server.Socket())
			for range 2 {
				_, err := w.server.Read(make([]byte, 99))
				require.ErrorIs(t, err, io.ErrUnexpectedEOF, "cut at %d", cut)
				require.NotErrorIs(t, err, io.EOF)
				require.ErrorContains(t, err, "close_notify")
			}
		}
	})
}

// What ends a handshake before its end.
// contract: T6, T7
func TestConn_HandshakeThatFails(t *testing.T) {
	eachVersion(t, "a handshake that fails says why, to both sides", func(t *testing.T, version uint16) {
		before := runtime.NumGoroutine()
		t.Run("the peer ends the stream", func(t *testing.T) {
			w := newWire(t, clientConfig(version), serverConfig(version))
			require.Equal(t, socket.ErrWouldBlock, w.client.Handshake())
			w.toServer(t, 50)
			require.Equal(t, socket.ErrWouldBlock, w.server.Handshake())
			require.NoError(t, w.far.CloseWrite())
			travelled(t, w.server.Socket())
			for range 2 {
				require.ErrorIs(t, w.server.Handshake(), io.ErrUnexpectedEOF)
			}
			require.NoError(t, w.client.Close())
			require.ErrorIs(t, w.client.Handshake(), net.ErrClosed)
		})
		t.Run("garbage", func(t *testing.T) {
			w := newWire(t, clientConfig(version), serverConfig(version))
			_, err := w.far.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
			require.NoError(t, err)
			travelled(t, w.server.Socket())
			err = w.server.Handshake()
			require.ErrorContains(t, err, "does not look like a TLS handshake")
			require.ErrorAs(t, err, new(tls.RecordHeaderError))
		})
		t.Run("an unknown authority", func(t *testing.T) {
			client := clientConfig(version)
			client.RootCAs = nil
			w := newWire(t, client, serverConfig(version))
			var cerr, serr error
			for range 5 {
				cerr, serr = w.client.Handshake(), w.server.Handshake()
				w.all(t)
			}
			require.ErrorAs(t, cerr, new(*tls.CertificateVerificationError))
			if serr == nil { // TLS 1.3: it had ended here
				_, serr = read(t, w.server, 9)
			}
			require.ErrorContains(t, serr, "bad certificate", "the alert came")
		})
		t.Run("a reset", func(t *testing.T) {
			sock, peer := tcp(t)
			c := tlsconn.Client(sock, clientConfig(version))
			for c.Handshake() == socket.ErrWouldBlock && c.Buffered() > 0 { // still connecting
				runtime.Gosched()
			}
			require.NoError(t, peer.(*net.TCPConn).SetLinger(0))
			require.NoError(t, peer.Close())
			var err error
			for err = socket.ErrWouldBlock; err == socket.ErrWouldBlock; err = c.Handshake() {
				runtime.Gosched()
			}
			if !fixture.Wine { // which just ends the stream
				require.ErrorContains(t, err, "reset")
			}
			require.NoError(t, c.Close())
		})
		t.Run("a refused connection", func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			require.NoError(t, l.Close())
			sock, err := socket.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Skip("it is refused at once")
			}
			c := tlsconn.Client(sock, clientConfig(version))
			for err = socket.ErrWouldBlock; err == socket.ErrWouldBlock; err = c.Handshake() {
				runtime.Gosched()
			}
			require.ErrorContains(t, err, "refused")
			require.NoError(t, c.Close())
		})
		t.Run("a callback panics", func(t *testing.T) {
			server := serverConfig(version)
			server.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { panic("in the callback") }
			server.Certificates = nil
			w := newWire(t, clientConfig(version), server)
			require.Equal(t, socket.ErrWouldBlock, w.client.Handshake())
			w.all(t)
			require.PanicsWithValue(t, "in the callback", func() { _ = w.server.Handshake() })
			require.ErrorContains(t, w.server.Handshake(), "panicked")
			require.NoError(t, w.server.Close())
		})
		awaitGoroutines(t, before)
	})
}

// Close in the middle of a handshake leaves nothing.
// contract: T6
func TestConn_CloseGivesUpTheHandshake(t *testing.T) {
	guard(t, "a handshake that is given up leaves no goroutine")
	before := runtime.NumGoroutine()
	for range 20 {
		w := newWire(t, clientConfig(tls.VersionTLS13), serverConfig(tls.VersionTLS13))
		require.Equal(t, socket.ErrWouldBlock, w.server.Handshake())
		require.Equal(t, socket.ErrWouldBlock, w.client.Handshake())
		require.NoError(t, w.server.Close())
		require.NoError(t, w.client.Close())
		require.ErrorIs(t, w.server.Handshake(), net.ErrClosed)
		_, err := w.client.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
	}
	awaitGoroutines(t, before)
}

// awaitGoroutines waits until there are no more than n: one that ends does so by itself.
func awaitGoroutines(t testing.TB, n int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > n; runtime.Gosched() {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			require.Fail(t, "goroutines are left", "%s", buf[:runtime.Stack(buf, true)])
		}
	}
}

// contract: T6
func TestConn_EstablishedHasNoGoroutine(t *testing.T) {
	guard(t, "an established connection has no goroutine")
	before := runtime.NumGoroutine()
	for range 50 {
		established(t, tls.VersionTLS13)
	}
	awaitGoroutines(t, before)
}

// contract: L13
func TestConn_SteadyStateAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	if runtime.GOOS == "windows" {
		t.Skip("the test itself allocates, where it waits for what is under way")
	}
	eachVersion(t, "reading and writing allocate nothing beyond crypto/tls", func(t *testing.T, version uint16) {
		client, server := connected(t, version)
		buf, message := make([]byte, 4<<10), make([]byte, 1<<10)
		n := testing.AllocsPerRun(500, func() {
			_, _ = client.Write(message)
			travelled(t, server.Socket())
			for {
				if _, err := server.Read(buf); err != nil {
					break
				}
			}
		})
		// Those of crypto/tls: one for each time that it asks the socket.
		assert.LessOrEqual(t, n, 2.0)
	})
}

// contract: T7
func TestConn_ZeroValues(t *testing.T) {
	for name, c := range map[string]*tlsconn.Conn{"zero": new(tlsconn.Conn), "no socket": tlsconn.Server(nil, serverConfig(0))} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, c.Handshake(), fs.ErrInvalid)
			_, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, fs.ErrInvalid)
			_, err = c.Write(make([]byte, 1))
			require.ErrorIs(t, err, fs.ErrInvalid)
			require.NoError(t, c.Flush())
			require.Zero(t, c.Buffered())
			require.False(t, c.Pending())
			require.Error(t, c.CloseWrite())
			require.ErrorIs(t, c.Close(), fs.ErrInvalid)
			require.Nil(t, c.Socket())
			require.Zero(t, c.ConnectionState().Version)
		})
	}
	a, _ := pair(t)
	require.ErrorContains(t, tlsconn.Client(a, nil).Handshake(), "ServerName")
	require.ErrorContains(t, tlsconn.Client(a, clientConfig(0)).CloseWrite(), "Handshake")
}

// crypto/tls asks for the peer's address by name when a cache of sessions has no better key.
// contract: T7
func TestConn_AddressThatNobodyKnows(t *testing.T) {
	a, _ := pair(t)
	require.NoError(t, a.Close())
	c := tlsconn.Client(a, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}) //nolint:gosec // a test
	require.ErrorIs(t, c.Handshake(), net.ErrClosed)
}

// An empty read or write does nothing.
func TestConn_EmptyReadAndWrite(t *testing.T) {
	w := established(t, tls.VersionTLS13)
	read(t, w.server, 99)
	n, err := w.server.Read(nil)
	require.Zero(t, n)
	require.NoError(t, err)
	n, err = w.client.Write(nil)
	require.Zero(t, n)
	require.NoError(t, err)
	w.all(t)
	got, err := read(t, w.server, 99)
	require.Empty(t, got)
	require.Equal(t, socket.ErrWouldBlock, err)
}

// random returns bytes that do not repeat.
func random(n int) []byte {
	b := make([]byte, n)
	seed := [32]byte{byte(n), byte(n >> 8)}
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}
