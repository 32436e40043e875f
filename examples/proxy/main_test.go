//go:build unix || windows

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

// limit bounds every wait.
const limit = time.Minute

// syncBuffer is what the program prints as errors.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// running is the program.
type running struct {
	addr   string
	stop   func()
	out    *bufio.Reader
	status chan int
	log    syncBuffer
}

func started(t *testing.T, args ...string) *running {
	t.Helper()
	p, err := epore.New()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.NoError(t, p.Close())
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	run1 := &running{stop: stop, out: bufio.NewReader(r), status: make(chan int, 1)}
	go func() {
		run1.status <- run(ctx, args, w, &run1.log)
		_ = w.Close()
	}()
	line, err := run1.out.ReadString('\n')
	require.NoError(t, err, run1.log.String())
	t.Cleanup(func() {
		stop()
		_, _ = io.Copy(io.Discard, run1.out)
	})
	run1.addr, _, _ = strings.Cut(strings.TrimPrefix(line, "listening on "), ";")
	return run1
}

// ends stops the program, and returns what it printed last.
func (r *running) ends(t *testing.T) string {
	t.Helper()
	r.stop()
	rest, err := io.ReadAll(r.out)
	require.NoError(t, err)
	require.Zero(t, <-r.status, r.log.String())
	return string(rest)
}

// backendAt runs serve for each connection.
func backendAt(t *testing.T, addr string, serve func(*net.TCPConn)) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(limit))
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return l
}

// freeAddr returns an address that nobody listens at. The port is below those that systems
// choose by themselves, so that no other socket has it a moment later.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(limit)))
	return c.(*net.TCPConn)
}

// requireReset requires that the proxy resets a new client. It must not look like an empty
// answer.
func requireReset(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err == nil {
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(limit)))
		_, err = c.Read(make([]byte, 1))
	} // else the reset came so soon that connecting failed
	requireResetBy(t, err)
}

// requireResetBy requires that err came from a reset. Wine just ends the stream.
func requireResetBy(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	if !fixture.Wine {
		require.NotEqual(t, io.EOF, err)
	}
}

func sendsBack(c *net.TCPConn) { _, _ = io.Copy(c, struct{ io.Reader }{c}) }

func names(name string) func(*net.TCPConn) {
	return func(c *net.TCPConn) { fmt.Fprintln(c, name) }
}

func ask(t *testing.T, addr string) string {
	t.Helper()
	c := dial(t, addr)
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	return strings.TrimSpace(string(all))
}

// All bytes arrive in both directions, and each end of a stream by itself.
func TestProxy_BytesAndHalfClose(t *testing.T) {
	// It answers when the client has closed its half.
	l := backendAt(t, "127.0.0.1:0", func(c *net.TCPConn) {
		all, err := io.ReadAll(c)
		if err == nil {
			_, _ = c.Write(all)
		}
	})
	for _, loops := range []string{"1", "2"} {
		p := started(t, "-loops", loops, l.Addr().String())
		var wait sync.WaitGroup
		const each = 3 << 20
		for i := range 8 {
			c := dial(t, p.addr)
			wait.Go(func() {
				sent := make([]byte, each)
				random := rand.New(rand.NewPCG(uint64(i), 1))
				for i := range sent {
					sent[i] = byte(random.Uint32())
				}
				_, err := c.Write(sent)
				_ = c.CloseWrite()
				got, readErr := io.ReadAll(c)
				if err != nil || readErr != nil || !bytes.Equal(sent, got) {
					t.Errorf("write: %v, read: %v, %d bytes of %d", err, readErr, len(got), len(sent))
				}
			})
		}
		wait.Wait()
		require.Equal(t, fmt.Sprintf("8 connections, 0 open; 0 refused, 0 without a backend, 0 cut; %d bytes up, %d down\n", 8*each, 8*each), p.ends(t))
	}
}

// Backends take turns. One that is down is left out and tried again later.
func TestProxy_DeadBackend(t *testing.T) {
	a, b := backendAt(t, "127.0.0.1:0", names("a")), backendAt(t, freeAddr(t), names("b"))
	p := started(t, "-retry", "50ms", a.Addr().String(), b.Addr().String())
	require.ElementsMatch(t, []string{"a", "a", "b", "b"}, []string{ask(t, p.addr), ask(t, p.addr), ask(t, p.addr), ask(t, p.addr)})
	require.NoError(t, b.Close())
	for range 4 {
		require.Equal(t, "a", ask(t, p.addr))
	}
	require.Contains(t, p.log.String(), b.Addr().String()+" is left out")
	backendAt(t, b.Addr().String(), names("b again"))
	for begin := time.Now(); ask(t, p.addr) != "b again"; {
		require.Less(t, time.Since(begin), limit)
	}
	require.Contains(t, p.ends(t), "0 open; 0 refused, 0 without a backend, 0 cut")
}

func TestProxy_NoBackend(t *testing.T) {
	addr := freeAddr(t)
	p := started(t, addr, addr)
	requireReset(t, p.addr)
	require.Contains(t, p.ends(t), "1 connections, 0 open; 0 refused, 1 without a backend")
}

// If a backend dies in the middle of an answer, its client sees a reset.
func TestProxy_BackendDies(t *testing.T) {
	if fixture.Wine {
		t.Skip("Wine does not send the reset that this is about")
	}
	l := backendAt(t, "127.0.0.1:0", func(c *net.TCPConn) {
		_, _ = c.Write([]byte("half an answ"))
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
	})
	p := started(t, l.Addr().String())
	c := dial(t, p.addr)
	_, err := io.ReadFull(c, make([]byte, 12))
	require.NoError(t, err)
	_, err = c.Write([]byte("x"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	requireResetBy(t, err)
	require.Contains(t, p.ends(t), "0 open; 0 refused, 0 without a backend, 1 cut")
}

// While one client does not read, the backend is stopped after a bounded amount, and other
// clients are served.
func TestProxy_SlowReader(t *testing.T) {
	var wrote [2]chan int64
	for i := range wrote {
		wrote[i] = make(chan int64, 1)
	}
	const all = 64 << 20
	n := 0
	var mu sync.Mutex
	l := backendAt(t, "127.0.0.1:0", func(c *net.TCPConn) {
		mu.Lock()
		done := wrote[n]
		n++
		mu.Unlock()
		written := int64(0)
		for b := make([]byte, 64<<10); written < all; written += int64(len(b)) {
			if _, err := c.Write(b); err != nil {
				break
			}
		}
		done <- written
	})
	p := started(t, l.Addr().String())
	slow := dial(t, p.addr)
	_, err := io.ReadFull(slow, make([]byte, 1)) // it has a backend
	require.NoError(t, err)
	got, err := io.Copy(io.Discard, dial(t, p.addr))
	require.NoError(t, err)
	require.EqualValues(t, all, got)
	require.EqualValues(t, all, <-wrote[1])
	require.Empty(t, wrote[0]) // still waiting for the slow one
	got, err = io.Copy(io.Discard, slow)
	require.NoError(t, err)
	require.EqualValues(t, all-1, got)
}

// Clients above the limit are reset, and those that are open may end in order.
func TestProxy_LimitAndGrace(t *testing.T) {
	l := backendAt(t, "127.0.0.1:0", sendsBack)
	p := started(t, "-max", "1", "-grace", "1h", l.Addr().String())
	first := dial(t, p.addr)
	_, err := first.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(first, make([]byte, 1))
	require.NoError(t, err)
	requireReset(t, p.addr)
	// The program ends when the client that it has is served.
	p.stop()
	_, err = first.Write([]byte("y"))
	require.NoError(t, err)
	_, err = io.ReadFull(first, make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, first.Close())
	require.Contains(t, p.ends(t), "1 connections, 0 open; 1 refused")
}

func TestProxy_InvalidFlags(t *testing.T) {
	var stderr strings.Builder
	require.Equal(t, 2, run(t.Context(), nil, io.Discard, &stderr))
	require.Contains(t, stderr.String(), "no backend")
	for _, args := range [][]string{{"-nonsense"}, {"-loops", "-1"}, {"-connect", "0"}, {"-retry", "-1s"}, {"-idle", "0"},
		{"-grace", "-1s"}, {"-max", "0"}, {"localhost:80"}, {"127.0.0.1"}} {
		require.Equal(t, 2, run(t.Context(), append(args, "127.0.0.1:1"), io.Discard, io.Discard), "%q", args)
	}
	stderr.Reset()
	require.Zero(t, run(t.Context(), []string{"-h"}, io.Discard, &stderr))
	require.Contains(t, stderr.String(), "usage: proxy [flags] backend-address...")
	require.Equal(t, 1, run(t.Context(), []string{"-addr", "localhost:0", "127.0.0.1:1"}, io.Discard, io.Discard))
}
