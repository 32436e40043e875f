//go:build unix

package loop_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/queuetest"
	"github.com/epore/epore/loop"
)

// In the environment: makes the test binary an echo server with so many descriptors, on the
// queue that queuetest.Env names.
const withLimit = "EPORE_TEST_DESCRIPTORS"

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(withLimit)); err == nil {
		fewDescriptors(n)
		return
	}
	os.Exit(m.Run())
}

func setLimit[T ~int64 | ~uint64](field *T, n int) { *field = T(n) }

// fewDescriptors is a server that runs out of descriptors. It prints its address, and in the
// end how often it waited.
func fewDescriptors(n int) {
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var limit unix.Rlimit
	check(unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	setLimit(&limit.Cur, n)
	check(unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // until the test has enough
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	waits := new(atomic.Int64)
	cfg := loop.Config{Grace: 10 * time.Millisecond, NewPoll: func() (*epore.Poll, error) {
		return epore.NewWith(&waitCounter{queuetest.Named(os.Getenv(queuetest.Env)).New(), waits})
	}}
	check(loop.Run(ctx, 1, cfg, func(l *loop.Loop) error {
		addr, err := l.Listen("tcp", "127.0.0.1:0", nil, new(echo))
		fmt.Println(addr)
		return err
	}))
	fmt.Println(waits.Load())
}

type waitCounter struct {
	backend.Backend
	waits *atomic.Int64
}

func (q *waitCounter) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	q.waits.Add(1)
	return q.Backend.Wait(dst, timeout)
}

// With too few descriptors the clients wait, all are served, and nothing spins.
// contract: L8
func TestLoop_OutOfDescriptors(t *testing.T) {
	eachQueue(t, "out of descriptors clients wait, and none is lost", func(t *testing.T, open newPoll) {
		name, _, _ := strings.Cut(strings.ReplaceAll(t.Name()[strings.Index(t.Name(), "/")+1:], "_Park", ""), ",_Block")
		name = strings.TrimSuffix(strings.ReplaceAll(name, "kqueue,_", "kqueue, "), ",")
		if queuetest.Named(name) == nil {
			t.Skip("the other strategy")
		}
		if isKqueue(t) {
			t.Skip("a simulated kernel has descriptors of its own")
		}
		self, err := os.Executable()
		require.NoError(t, err)
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), withLimit+"=40", queuetest.Env+"="+name,
			"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		out := bufio.NewReader(stdout)
		addr, err := out.ReadString('\n')
		require.NoError(t, err)
		const clients = 120
		var all, gate sync.WaitGroup
		gate.Add(clients)
		for range clients {
			all.Go(func() {
				c, err := net.Dial("tcp", strings.TrimSpace(addr))
				gate.Done()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				gate.Wait() // all are connected, says the system; and the program has not that many
				if _, err := c.Write([]byte("ping")); err != nil {
					t.Error(err)
					return
				}
				if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		require.NoError(t, stdin.Close())
		waits, err := out.ReadString('\n')
		require.NoError(t, err)
		require.NoError(t, cmd.Wait())
		n, err := strconv.Atoi(strings.TrimSpace(waits))
		require.NoError(t, err)
		require.Less(t, n, 20*clients, "it spins")
	})
}

// program runs a client that is installed here, and returns what it printed.
func program(t *testing.T, stdin string, name string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed here", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// https answers each request with its first line.
func https() *handler {
	return &handler{data: func(c *loop.Conn, b []byte) (used int) {
		for {
			i := strings.Index(string(b[used:]), "\r\n\r\n")
			if i < 0 {
				return used
			}
			line, _, _ := strings.Cut(string(b[used:]), "\r\n")
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s\n", len(line)+1, line)
			used += i + 4
		}
	}}
}

func TestInterop_Curl(t *testing.T) {
	for _, version := range []string{"1.2", "1.3"} {
		t.Run(version, func(t *testing.T) {
			guard(t, "curl talks to a loop")
			s := serve(t, 1, loop.Config{}, serverTLS(), https())
			ca := filepath.Join(t.TempDir(), "ca.pem")
			require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certs().cert.Certificate[0]}), 0o600))
			url := "https://" + s.addr
			out, err := program(t, "", "curl", "-sS", "--noproxy", "*", "--cacert", ca, "--tlsv"+version, "--tls-max", version, "--max-time", "40", url+"/a", url+"/b")
			require.NoError(t, err, out)
			require.Equal(t, "GET /a HTTP/1.1\nGET /b HTTP/1.1\n", out)
		})
	}
}

func TestTLS_PipelinedRequests(t *testing.T) {
	guard(t, "pipelined requests are answered in order")
	s := serve(t, 1, loop.Config{}, serverTLS(), https())
	c := dialTLS(t, s.addr, nil)
	for i := range 3 {
		_, err := fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: example.test\r\n\r\n", i)
		require.NoError(t, err)
	}
	want := ""
	for i := range 3 {
		want += fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nGET /%d HTTP/1.1\n", i)
	}
	expect(t, c, want)
}

// A storm of connections that come and go, in every way.
// contract: L1
func TestLoop_Storm(t *testing.T) {
	eachQueue(t, "each Open has a Close, and nothing is left", func(t *testing.T, open newPoll) {
		for name, conf := range map[string]*tls.Config{"plain": nil, "TLS": serverTLS()} {
			h := new(echo)
			s := serve(t, 2, loop.Config{NewPoll: open}, conf, h)
			var all sync.WaitGroup
			for i := range 4 {
				all.Go(func() {
					for j := range 100 {
						c, err := net.Dial("tcp", s.addr)
						if err != nil {
							t.Error(err)
							return
						}
						switch (i + j) % 5 {
						case 0: // nothing
						case 1:
							_, _ = c.Write([]byte("\x16\x03\x01 and no more"))
						case 2:
							_ = c.(*net.TCPConn).SetLinger(0)
						case 3:
							_ = c.(*net.TCPConn).CloseWrite()
						case 4:
							_, _ = c.Write([]byte("something"))
							_ = c.(*net.TCPConn).SetLinger(0)
						}
						_ = c.Close()
					}
				})
			}
			all.Wait()
			c := dial(t, s.addr)
			if conf == nil {
				ask(t, c, "it still answers")
			} else {
				secure := tls.Client(c, clientTLS())
				ask(t, secure, "it still answers")
			}
			require.NoError(t, c.Close())
			require.NoError(t, s.end(), name)
			require.Equal(t, h.opened.Load(), h.closed.Load())
		}
	})
}
