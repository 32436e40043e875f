//go:build unix || windows

package loop_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/queuetest"
	"github.com/epore/epore/loop"
	"github.com/epore/epore/socket"
)

type newPoll = func() (*epore.Poll, error)

// eachQueue runs a test on every queue of this system; on io_uring also where it belongs to
// one thread.
func eachQueue(t *testing.T, rule string, run func(t *testing.T, open newPoll)) {
	for _, queue := range queuetest.All() {
		name := queue.Name
		for _, s := range []epore.Strategy{epore.Park, epore.Block} {
			if s == epore.Block && name != "io_uring" {
				continue
			}
			t.Run(name+", "+s.String(), func(t *testing.T) {
				guard(t, rule)
				open := func() (*epore.Poll, error) { return epore.NewWith(queue.New(), epore.WithStrategy(s)) }
				p, err := open()
				if errors.Is(err, errors.ErrUnsupported) {
					t.Skipf("no such queue here: %v", err)
				}
				require.NoError(t, err)
				require.NoError(t, p.Close())
				run(t, open)
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

// handler is a Handler of functions; those that are missing do nothing.
type handler struct {
	open   func(*loop.Conn)
	data   func(*loop.Conn, []byte) int
	close  func(*loop.Conn, error)
	failed func(*loop.Conn, error)
}

func (h *handler) Open(c *loop.Conn) {
	if h.open != nil {
		h.open(c)
	}
}

func (h *handler) Data(c *loop.Conn, b []byte) int {
	if h.data == nil {
		return len(b)
	}
	return h.data(c, b)
}

func (h *handler) Close(c *loop.Conn, err error) {
	if h.close != nil {
		h.close(c, err)
	}
}

func (h *handler) Failed(c *loop.Conn, err error) {
	if h.failed != nil {
		h.failed(c, err)
	}
}

// withEOF is a handler that is told of the peer's end, and withDrained of ErrFull's.
type withEOF struct {
	*handler
	eof func(*loop.Conn)
}

func (h *withEOF) EOF(c *loop.Conn) { h.eof(c) }

type withDrained struct {
	*handler
	drained func(*loop.Conn)
}

func (h *withDrained) Drained(c *loop.Conn) { h.drained(c) }

// echo sends back what it gets, and counts.
type echo struct {
	opened, closed, failures atomic.Int32
	mu                       sync.Mutex
	errs                     []error
}

func (e *echo) Open(*loop.Conn) { e.opened.Add(1) }

func (e *echo) Data(c *loop.Conn, b []byte) int {
	if _, err := c.Write(b); err == loop.ErrFull { // a reset is told to Close
		panic(err)
	}
	return len(b)
}

func (e *echo) Close(_ *loop.Conn, err error) {
	e.keep(err)
	e.closed.Add(1)
}

func (e *echo) Failed(_ *loop.Conn, err error) {
	e.keep(err)
	e.failures.Add(1)
}

func (e *echo) keep(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.errs = append(e.errs, err)
}

// only is the one error that was told.
func (e *echo) only(t testing.TB) error {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Len(t, e.errs, 1)
	return e.errs[0]
}

// server is a Run that is under way.
type server struct {
	t     testing.TB
	addr  string
	stop  context.CancelFunc
	done  chan struct{}
	err   error
	loops []*loop.Loop
}

// serve runs loops that listen with h, until the test ends.
func serve(t testing.TB, loops int, cfg loop.Config, conf *tls.Config, h loop.Handler) *server {
	t.Helper()
	return run(t, loops, cfg, func(s *server, l *loop.Loop) error {
		addr, err := l.Listen("tcp", "127.0.0.1:0", conf, h)
		if err == nil {
			s.addr = addr.String()
		}
		return err
	})
}

// run runs loops until the test ends.
func run(t testing.TB, loops int, cfg loop.Config, start func(*server, *loop.Loop) error) *server {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	if cfg.Grace == 0 { // a busy machine needs more than the default
		cfg.Grace = time.Minute
	}
	s := &server{t: t, stop: stop, done: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		defer close(s.done)
		s.err = loop.Run(ctx, loops, cfg, func(l *loop.Loop) error {
			s.loops = append(s.loops, l)
			err := start(s, l)
			if len(s.loops) == max(loops, 1) {
				close(ready)
			}
			return err
		})
	}()
	t.Cleanup(func() { require.NoError(t, s.end()) })
	select {
	case <-ready:
	case <-s.done:
		require.NoError(t, s.err)
	}
	return s
}

// end stops the loops and waits for them.
func (s *server) end() error {
	s.stop()
	<-s.done
	return s.err
}

// on calls f on the loop, and waits for it.
func (s *server) on(f func()) {
	s.t.Helper()
	done := make(chan struct{})
	require.NoError(s.t, s.loops[0].Post(func() { defer close(done); f() }))
	<-done
}

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// ask sends s and reads as much.
func ask(t testing.TB, c net.Conn, s string) {
	t.Helper()
	_, err := c.Write([]byte(s))
	require.NoError(t, err)
	expect(t, c, s)
}

func expect(t testing.TB, c net.Conn, s string) {
	t.Helper()
	buf := make([]byte, len(s))
	_, err := io.ReadFull(c, buf)
	require.NoError(t, err)
	require.Equal(t, s, string(buf))
}

// await waits until is true of what the goroutine of the loop does.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(100 * time.Microsecond) {
		require.True(t, time.Now().Before(end), "%s: not within 30 s", what)
	}
}

// random returns bytes that do not repeat.
func random(n int) []byte {
	b := make([]byte, n)
	seed := [32]byte{byte(n), byte(n >> 8)}
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

type certificates struct {
	cert tls.Certificate
	pool *x509.CertPool
}

var certs = sync.OnceValue(func() certificates {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example.test"}, DNSNames: []string{"example.test", "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	c := certificates{cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool: x509.NewCertPool()}
	c.pool.AddCert(cert)
	return c
})

func serverTLS() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{certs().cert}} }
func clientTLS() *tls.Config {
	return &tls.Config{RootCAs: certs().pool, ServerName: "example.test"}
}

// awaitGoroutines waits until there are no more than n: one that ends does so by itself.
func awaitGoroutines(t testing.TB, n int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > n; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			require.Fail(t, "goroutines are left", "%s", buf[:runtime.Stack(buf, true)])
		}
	}
}

// streams are networks that the system has, and addresses to listen on.
func streams(t testing.TB) map[string]string {
	dir, err := os.MkdirTemp("", "s")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m := map[string]string{"tcp": "127.0.0.1:0"}
	if l, err := net.Listen("unix", dir+"/try"); err == nil {
		_ = l.Close()
		m["unix"] = dir + "/s"
	}
	return m
}

func pair(t testing.TB) (a, b *socket.Conn) {
	t.Helper()
	a, b, err := socket.Pair()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

func isKqueue(t testing.TB) bool { return strings.Contains(t.Name(), "kqueue") }

// countingQueue counts the waits of a queue.
type countingQueue struct {
	backend.Backend
	waits atomic.Int64
}

func (q *countingQueue) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	q.waits.Add(1)
	return q.Backend.Wait(dst, timeout)
}

// counting is the queue of the test, with its waits counted.
func counting(t testing.TB) *countingQueue {
	for _, queue := range queuetest.All() {
		if strings.Contains(t.Name(), "/"+strings.ReplaceAll(queue.Name, " ", "_")+",") {
			return &countingQueue{Backend: queue.New()}
		}
	}
	require.Fail(t, "which queue?")
	return nil
}
