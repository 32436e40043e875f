package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

// queues are the queues to test in addition to that of New, by name.
var queues = map[string]func() backend.Backend{}

// eachQueue runs a test on each queue.
func eachQueue(t *testing.T, run func(t *testing.T, newPoll func() (*epore.Poll, error))) {
	try := func(name string, newPoll func() (*epore.Poll, error)) {
		t.Run(name, func(t *testing.T) {
			stop := backendtest.Watchdog(t, "every byte is echoed")
			defer stop()
			p, err := newPoll()
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip(err)
			}
			require.NoError(t, err)
			require.NoError(t, p.Close())
			run(t, newPoll)
		})
	}
	try("New", func() (*epore.Poll, error) { return epore.New() })
	for name, queue := range queues {
		try(name, func() (*epore.Poll, error) { return epore.NewWith(queue()) })
		if name == "io_uring" { // with Block, its ring belongs to one thread
			try(name+", Block", func() (*epore.Poll, error) {
				return epore.NewWith(queue(), epore.WithStrategy(epore.Block))
			})
		}
	}
}

// serving starts a server and stops it when the test ends.
func serving(t *testing.T, cfg config, newPoll func() (*epore.Poll, error)) *server {
	t.Helper()
	if cfg.addr == "" {
		cfg.addr = "127.0.0.1:0"
	}
	if cfg.loops == 0 {
		cfg.loops = 1
	}
	s, err := start(cfg, newPoll)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		s.stop()
		require.NoError(t, s.wait())
		t.Log(s.summary())
	})
	return s
}

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// client is a client of the flood.
type client struct {
	number int
	resets bool // resets the connection at a random point
	slow   bool // reads slowly
	rng    *rand.Rand
}

// stream returns the client's bytes, which differ from those of every other client.
func (c *client) stream(n int) []byte {
	b := make([]byte, n)
	seed := [32]byte{byte(c.number), byte(c.number >> 8), 1}
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// run sends the stream in pieces of random sizes with random pauses, and compares it with
// the echo. It returns an error unless every byte is echoed, followed by the end of the
// stream.
func (c *client) run(addr string, gate *sync.WaitGroup) error {
	conn, err := net.Dial("tcp", addr)
	gate.Done()
	if err != nil {
		return err
	}
	defer conn.Close()
	gate.Wait() // until all are connected
	size := c.rng.IntN(64 << 10)
	if c.rng.IntN(10) == 0 {
		size = c.rng.IntN(1 << 20)
	}
	data := c.stream(size)
	cut := -1
	if c.resets {
		cut = c.rng.IntN(size + 1)
	}
	sent := make(chan error, 1)
	rng := rand.New(rand.NewPCG(uint64(c.number), 2))
	go func() {
		sent <- c.send(conn.(*net.TCPConn), data, cut, rng)
	}()
	got := 0
	buf := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buf[:1+c.rng.IntN(len(buf))])
		if got+n > size || !bytes.Equal(data[got:got+n], buf[:n]) {
			return fmt.Errorf("client %d: bytes %d to %d are wrong", c.number, got, got+n)
		}
		got += n
		if err != nil {
			sendErr := <-sent
			if c.resets {
				return nil // any error is right
			}
			if err != io.EOF || got != size || sendErr != nil {
				return fmt.Errorf("client %d: %d of %d bytes echoed: %w, %w", c.number, got, size, err, sendErr)
			}
			return nil
		}
		if c.slow {
			pause(c.rng)
		}
	}
}

// send sends data. If cut is not negative, it stops there and resets the connection.
func (c *client) send(conn *net.TCPConn, data []byte, cut int, rng *rand.Rand) error {
	end := len(data)
	if cut >= 0 {
		end = cut
	}
	for at := 0; at < end; {
		n := min(1+rng.IntN(1<<rng.IntN(18)), end-at)
		if _, err := conn.Write(data[at : at+n]); err != nil {
			return err
		}
		at += n
		if rng.IntN(4) == 0 {
			pause(rng)
		}
	}
	if cut >= 0 {
		_ = conn.SetLinger(0)
		return conn.Close()
	}
	return conn.CloseWrite()
}

// pause sleeps for up to two milliseconds, to vary the order of events.
func pause(rng *rand.Rand) { time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond) }

// flood runs n clients at once.
func flood(t *testing.T, addr string, n int) {
	t.Helper()
	var all, gate sync.WaitGroup
	gate.Add(n)
	errs := make([]error, n)
	for i := range n {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), uint64(n)))
			c := client{number: i, rng: rng, resets: i%7 == 3, slow: i%5 == 1}
			errs[i] = c.run(addr, &gate)
		})
	}
	all.Wait()
	for _, err := range errs {
		assert.NoError(t, err)
	}
}

// affordable returns how many of the wanted connections the descriptor limit allows, with
// both ends in this process.
func affordable(t *testing.T, wanted int) int {
	n := min(wanted, descriptors()/2-50)
	t.Logf("reached %d connections of %d wanted", n, wanted)
	return n
}

func TestEcho_Flood(t *testing.T) {
	eachQueue(t, func(t *testing.T, newPoll func() (*epore.Poll, error)) {
		n := affordable(t, 1000)
		if strings.Contains(t.Name(), "kqueue") {
			n = min(n, 150) // a simulated kernel is slow
		}
		s := serving(t, config{idle: time.Minute, grace: time.Second}, newPoll)
		flood(t, s.addr(), n)
		s.stop()
		require.NoError(t, s.wait())
		require.Equal(t, n, s.loops[0].stats.accepted)
		require.Zero(t, s.loops[0].stats.idle)
		require.Zero(t, s.loops[0].live)
		require.Zero(t, s.loops[0].stats.stopped)
		require.NotZero(t, s.loops[0].stats.ended)
	})
}

func TestEcho_FloodOfSeveralLoops(t *testing.T) {
	const loops = 3
	s := serving(t, config{loops: loops, grace: time.Second}, func() (*epore.Poll, error) { return epore.New() })
	n := affordable(t, 300)
	flood(t, s.addr(), n)
	s.stop()
	require.NoError(t, s.wait())
	sum := 0
	for _, l := range s.loops {
		sum += l.stats.accepted
		if runtime.GOOS == "linux" {
			require.NotZero(t, l.stats.accepted, "the system distributes connections among the loops")
		}
	}
	require.Equal(t, n, sum)
}

// A client that does not read is made to stop writing, and gets all its data once it reads.
func TestEcho_SlowReader(t *testing.T) {
	eachQueue(t, func(t *testing.T, newPoll func() (*epore.Poll, error)) {
		s := serving(t, config{}, newPoll)
		c := dial(t, s.addr())
		const much = 200 << 20 // more than all buffers hold
		chunk := (&client{number: 9}).stream(1 << 20)
		sent := 0
		for sent < much {
			// If nothing moves for this long, the buffers are full. On a slow machine the test
			// may stop earlier, and then checks less.
			require.NoError(t, c.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
			n, err := c.Write(chunk[sent%len(chunk):])
			sent += n
			if err != nil {
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				break
			}
		}
		require.Less(t, sent, much, "the server must not buffer without bound")
		t.Logf("%d KiB in buffers", sent>>10)
		require.NoError(t, c.CloseWrite())
		got := 0
		for buf := make([]byte, len(chunk)); ; {
			n, err := c.Read(buf)
			for i := 0; i < n; {
				at := (got + i) % len(chunk)
				m := min(n-i, len(chunk)-at)
				require.True(t, bytes.Equal(chunk[at:at+m], buf[i:i+m]), "around byte %d", got)
				i += m
			}
			got += n
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
		}
		require.Equal(t, sent, got)
	})
}

func TestEcho_ClosesIdleConnections(t *testing.T) {
	eachQueue(t, func(t *testing.T, newPoll func() (*epore.Poll, error)) {
		// On a machine that stalls for longer than the idle time, the busy client is idle as
		// well. Then try again with a longer time.
		for idle := 100 * time.Millisecond; ; idle *= 4 {
			s := serving(t, config{idle: idle, grace: time.Second}, newPoll)
			began := time.Now()
			var silent []*net.TCPConn
			for range 3 {
				silent = append(silent, dial(t, s.addr()))
			}
			busy := dial(t, s.addr())
			last, longest := time.Now(), time.Duration(0)
			var err error
			for time.Since(began) < 3*idle && err == nil {
				if _, err = busy.Write([]byte("x")); err == nil {
					_, err = busy.Read(make([]byte, 1))
				}
				time.Sleep(idle / 10)
				longest = max(longest, time.Since(last))
				last = time.Now()
			}
			for _, c := range silent {
				_, err := c.Read(make([]byte, 1))
				require.Equal(t, io.EOF, err)
				require.GreaterOrEqual(t, time.Since(began), idle, "early")
			}
			if err == nil {
				return
			}
			require.Greater(t, longest, idle/2, "a busy connection was closed")
			require.Less(t, idle, 10*time.Second)
		}
	})
}

// When the server stops, it sends pending data before the end of the stream.
func TestEcho_StopSendsPendingData(t *testing.T) {
	eachQueue(t, func(t *testing.T, newPoll func() (*epore.Poll, error)) {
		s := serving(t, config{grace: time.Minute}, newPoll)
		c, bystander := dial(t, s.addr()), dial(t, s.addr())
		_, err := bystander.Write([]byte("x"))
		require.NoError(t, err)
		_, err = bystander.Read(make([]byte, 1))
		require.NoError(t, err, "the connection is accepted before the server stops")
		data := (&client{number: 5}).stream(100 << 20)
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
		sent, err := c.Write(data)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		s.stop()
		_, err = bystander.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		require.NoError(t, bystander.Close())
		got, err := io.ReadAll(c)
		require.NoError(t, err, "the end of the stream, not a reset")
		require.NotEmpty(t, got)
		require.LessOrEqual(t, len(got), sent)
		require.True(t, bytes.Equal(data[:len(got)], got))
		require.NoError(t, c.Close())
		require.NoError(t, s.wait())
		require.Equal(t, s.loops[0].stats.received, int64(len(got)+1), "everything received was sent")
	})
}

// A stopping server waits for clients no longer than its grace period.
func TestEcho_StopEndsAfterGrace(t *testing.T) {
	s := serving(t, config{grace: 50 * time.Millisecond}, func() (*epore.Poll, error) { return epore.New() })
	c := dial(t, s.addr())
	_, err := c.Write([]byte("x"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	require.NoError(t, err)
	began := time.Now()
	s.stop()
	require.NoError(t, s.wait())
	require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond, "early")
	require.Equal(t, 1, s.loops[0].stats.stopped)
}

func TestEcho_InvalidFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"flag provided but not defined: -nonsense": {"-nonsense"},
		`unexpected argument "stray"`:              {"stray"},
		"-loops 0: must be":                        {"-loops", "0"},
		"-loops 1025: must be":                     {"-loops", "1025"},
		"-idle -1s: must be":                       {"-idle", "-1s"},
		"-grace -1s: must be":                      {"-grace", "-1s"},
	} {
		var stdout, stderr strings.Builder
		require.Equal(t, 2, run(args, &stdout, &stderr))
		require.Empty(t, stdout.String())
		require.Contains(t, stderr.String(), "echo: "+want)
	}
	var stdout, stderr strings.Builder
	require.Zero(t, run([]string{"-h"}, &stdout, &stderr))
	require.Regexp(t, regexp.MustCompile(`(?s)Usage: echo.*-addr.*-block.*-grace.*-idle.*-loops`), stdout.String())
}
