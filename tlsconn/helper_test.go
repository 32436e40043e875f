//go:build unix || windows

package tlsconn_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
	"github.com/epore/epore/socket"
	"github.com/epore/epore/tlsconn"
)

// authority signs the certificates of the tests.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pool *x509.CertPool
}

var theAuthority = sync.OnceValue(func() *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the authority of the tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		panic(err)
	}
	a.pool.AddCert(a.cert)
	return a
})

// issue makes a certificate for names.
func (a *authority) issue(key crypto.Signer, names ...string) tls.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

var ecdsaCert = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return theAuthority().issue(key, "localhost", "example.test")
})

var rsaCert = sync.OnceValue(func() tls.Certificate {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return theAuthority().issue(key, "localhost", "example.test")
})

// versions are those that everything is tried with.
var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

func serverConfig(version uint16) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{ecdsaCert()}, MinVersion: version, MaxVersion: version}
}

func clientConfig(version uint16) *tls.Config {
	return &tls.Config{RootCAs: theAuthority().pool, ServerName: "example.test", MinVersion: version, MaxVersion: version}
}

// eachVersion runs a test with each version of TLS.
func eachVersion(t *testing.T, rule string, run func(t *testing.T, version uint16)) {
	for _, v := range versions {
		t.Run(tls.VersionName(v), func(t *testing.T) {
			guard(t, rule)
			run(t, v)
		})
	}
}

// eachQueue runs a test on every queue of this system, for both ways of waiting.
func eachQueue(t *testing.T, rule string, run func(t *testing.T, p *epore.Poll)) {
	for _, queue := range queuetest.All() {
		name := queue.Name
		for _, s := range []epore.Strategy{epore.Park, epore.Block} {
			t.Run(name+", "+s.String(), func(t *testing.T) {
				guard(t, rule)
				p, err := epore.NewWith(queue.New(), epore.WithStrategy(s))
				if errors.Is(err, errors.ErrUnsupported) {
					t.Skipf("no such queue here: %v", err)
				}
				require.NoError(t, err)
				defer func() { require.NoError(t, p.Close()) }()
				// An io_uring locks the goroutine to its thread now, before a handshake begins.
				require.NoError(t, p.Poll(epore.NewEvents(1), 0))
				run(t, p)
			})
		}
	}
}

// guard ends a test that hangs, and prints the rule when it fails.
func guard(t testing.TB, rule string) {
	stop := backendtest.Watchdog(t, rule)
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("the rule that is broken: %s", rule)
		}
	})
}

// drive calls step now and at each event of c, until it returns true, and waits for what a
// loop waits for: see the package comment.
func drive(t testing.TB, p *epore.Poll, c *tlsconn.Conn, step func() (done bool)) {
	t.Helper()
	const token = 7
	var in epore.Interest
	events := epore.NewEvents(8)
	for !step() {
		want := epore.Readable
		if c.Buffered() > 0 {
			want |= epore.Writable
		}
		switch {
		case c.Pending():
			continue
		case in == 0:
			require.NoError(t, p.Registry().Register(c.Socket(), token, want))
		case in != want:
			require.NoError(t, p.Registry().Reregister(c.Socket(), token, want))
		}
		in = want
		require.NoError(t, p.Poll(events, fixture.Soon))
		require.NotZero(t, events.Len(), "no event came")
		for ev := range events.All() {
			if ev.Writable() {
				if err := c.Flush(); err != nil {
					require.Equal(t, socket.ErrWouldBlock, err)
				}
			}
		}
	}
	if in != 0 {
		require.NoError(t, p.Registry().Deregister(c.Socket()))
	}
}

// echo is a step that sends back what it reads, until the end of the stream.
func echo(t testing.TB, c *tlsconn.Conn) func() bool {
	buf := make([]byte, 8<<10)
	return func() bool {
		t.Helper()
		for c.Buffered() < 1<<20 {
			n, err := c.Read(buf)
			switch err {
			case nil:
				m, err := c.Write(buf[:n])
				require.NoError(t, err)
				require.Equal(t, n, m)
			case socket.ErrWouldBlock:
				return false
			default:
				require.Equal(t, io.EOF, err)
				return true
			}
		}
		return false
	}
}

// wire is two Conns with all bytes between them in the hands of the test.
type wire struct {
	client, server *tlsconn.Conn
	near, far      *socket.Conn // the other ends of their sockets
	held           [2][]byte    // what was taken from near and far, and not passed on
}

func newWire(t testing.TB, client, server *tls.Config) *wire {
	t.Helper()
	a, near := pair(t)
	b, far := pair(t)
	w := &wire{client: tlsconn.Client(a, client), server: tlsconn.Server(b, server), near: near, far: far}
	closeLater(t, w.client, w.server)
	return w
}

// toServer moves what the client has sent, at most n bytes, and returns how much there was.
func (w *wire) toServer(t testing.TB, n int) int { return w.move(t, 0, w.near, w.far, n) }

// toClient is toServer in the other direction.
func (w *wire) toClient(t testing.TB, n int) int { return w.move(t, 1, w.far, w.near, n) }

func (w *wire) move(t testing.TB, i int, from, to *socket.Conn, n int) int {
	t.Helper()
	if len(w.held[i]) < n {
		travelled(t, from)
		buf := make([]byte, min(n-len(w.held[i]), 64<<10))
		m, err := from.Read(buf)
		if err != nil && err != io.EOF {
			require.Equal(t, socket.ErrWouldBlock, err)
		}
		w.held[i] = append(w.held[i], buf[:m]...)
	}
	m, err := to.Write(w.held[i][:min(n, len(w.held[i]))])
	if err != nil {
		require.Equal(t, socket.ErrWouldBlock, err)
	}
	w.held[i] = w.held[i][m:]
	if m > 0 {
		travelled(t, [...]*tlsconn.Conn{w.server, w.client}[i].Socket())
	}
	return m
}

// travelled waits for what is under way to c, where Pair makes TCP sockets.
func travelled(t testing.TB, c *socket.Conn) {
	if runtime.GOOS != "windows" {
		return
	}
	fixture.Readable(descriptor(t, c), 20*time.Millisecond)
}

// descriptor is the number of a socket's descriptor, or -1 if it is closed.
func descriptor(t testing.TB, c *socket.Conn) int {
	t.Helper()
	number := -1
	if raw, err := c.SyscallConn(); err == nil {
		require.NoError(t, raw.Control(func(fd uintptr) { number = int(fd) }))
	}
	return number
}

// all moves everything in both directions.
func (w *wire) all(t testing.TB) (moved int) {
	t.Helper()
	for {
		n := w.toServer(t, 1<<20) + w.toClient(t, 1<<20)
		if n == 0 {
			return moved
		}
		moved += n
	}
}

// establish shakes hands.
func (w *wire) establish(t testing.TB) {
	t.Helper()
	for range 20 {
		cerr, serr := w.client.Handshake(), w.server.Handshake()
		w.all(t)
		if cerr == nil && serr == nil {
			return
		}
		for _, err := range []error{cerr, serr} {
			if err != nil {
				require.Equal(t, socket.ErrWouldBlock, err)
			}
		}
	}
	require.Fail(t, "the handshake has no end")
}

// established is two Conns that have shaken hands.
func established(t testing.TB, version uint16) *wire {
	t.Helper()
	w := newWire(t, clientConfig(version), serverConfig(version))
	w.establish(t)
	return w
}

// connected is two Conns that have shaken hands, with nothing between them.
func connected(t testing.TB, version uint16) (client, server *tlsconn.Conn) {
	t.Helper()
	a, b := pair(t)
	client, server = tlsconn.Client(a, clientConfig(version)), tlsconn.Server(b, serverConfig(version))
	closeLater(t, client, server)
	for range 20 {
		cerr, serr := client.Handshake(), server.Handshake()
		travelled(t, a)
		if cerr == nil && serr == nil {
			break
		}
	}
	require.NoError(t, client.Handshake())
	require.NoError(t, server.Handshake())
	for _, c := range []*tlsconn.Conn{client, server} { // tickets
		_, err := c.Read(make([]byte, 1))
		require.Equal(t, socket.ErrWouldBlock, err)
	}
	return client, server
}

// read reads until it would block, with room for n bytes at a time.
func read(t testing.TB, c *tlsconn.Conn, n int) (got []byte, err error) {
	t.Helper()
	for buf := make([]byte, n); ; {
		m, err := c.Read(buf)
		got = append(got, buf[:m]...)
		if err != nil {
			require.Zero(t, m)
			return got, err
		}
	}
}

func pair(t testing.TB) (a, b *socket.Conn) {
	t.Helper()
	a, b, err := socket.Pair()
	require.NoError(t, err)
	closeLater(t, a, b)
	return a, b
}

// closeLater closes what is still open when the test ends.
func closeLater(t testing.TB, closers ...io.Closer) {
	t.Cleanup(func() {
		for _, c := range closers {
			if err := c.Close(); err != nil {
				require.ErrorIs(t, err, net.ErrClosed)
			}
		}
	})
}

// tcp is a socket of the loop and a net.Conn, connected with each other.
func tcp(t testing.TB) (*socket.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := socket.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	n, err := l.Accept()
	require.NoError(t, err)
	closeLater(t, c, n)
	return c, n
}

// clientReads has the server send what it holds, and checks that the client reads just want.
func (w *wire) clientReads(t testing.TB, want []byte) {
	t.Helper()
	var got []byte
	for len(got) < len(want) {
		w.toClient(t, 64<<10)
		b, err := read(t, w.client, 16<<10)
		require.Equal(t, socket.ErrWouldBlock, err)
		got = append(got, b...)
		if err := w.server.Flush(); err != nil {
			require.Equal(t, socket.ErrWouldBlock, err)
		}
	}
	require.True(t, bytes.Equal(want, got))
	require.Zero(t, w.server.Buffered())
}
