//go:build unix || windows

package loop_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/loop"
)

// A flood of clients, with random sizes, pauses and resets: every byte comes back.
// contract: L1
func TestLoop_FloodOnEachQueue(t *testing.T) {
	eachQueue(t, "every byte comes back", func(t *testing.T, open newPoll) {
		for name, conf := range map[string]*tls.Config{"plain": nil, "TLS": serverTLS()} {
			t.Run(name, func(t *testing.T) {
				h := new(echo)
				s := serve(t, 1, loop.Config{NewPoll: open, MaxOut: 256 << 10, Idle: time.Minute}, conf, h)
				clients := atMost(t, 200)
				if isKqueue(t) || conf != nil {
					clients = 40
				}
				flood(t, s.addr, clients, conf != nil)
				require.NoError(t, s.end())
				require.EqualValues(t, clients, h.opened.Load())
				require.EqualValues(t, clients, h.closed.Load())
			})
		}
	})
}

// contract: L8
func TestLoop_FloodOfSeveralLoops(t *testing.T) {
	for network, addr := range streams(t) {
		t.Run(network, func(t *testing.T) {
			guard(t, "connections are spread over the loops")
			handlers := []*echo{new(echo), new(echo), new(echo)}
			var mu sync.Mutex
			byLoop := map[*loop.Loop]*echo{}
			s := run(t, 3, loop.Config{}, func(s *server, l *loop.Loop) error {
				mu.Lock()
				defer mu.Unlock()
				h := handlers[len(byLoop)]
				byLoop[l] = h
				a, err := l.Listen(network, addr, nil, h)
				if err == nil {
					if s.addr != "" {
						require.Equal(t, s.addr, a.String(), "all listen on the same address")
					}
					s.addr = a.String()
				}
				return err
			})
			clients := atMost(t, 150)
			floodOn(t, network, s.addr, clients, false)
			require.NoError(t, s.end())
			var sum int32
			for _, h := range handlers {
				require.NotZero(t, h.opened.Load())
				require.Equal(t, h.opened.Load(), h.closed.Load())
				sum += h.opened.Load()
			}
			require.EqualValues(t, clients, sum)
		})
	}
}

// atMost returns n, or as many connections as the descriptors of this process suffice for, both
// ends of each.
func atMost(t *testing.T, n int) int {
	t.Helper()
	if limit := (fixture.DescriptorLimit(t) - 120) / 2; limit < n {
		t.Logf("reached %d of %d connections", limit, n)
		return limit
	}
	return n
}

func flood(t *testing.T, addr string, n int, secure bool) { floodOn(t, "tcp", addr, n, secure) }

func floodOn(t *testing.T, network, addr string, n int, secure bool) {
	t.Helper()
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		all.Go(func() { errs[i] = client(network, addr, i, secure) })
	}
	all.Wait()
	for _, err := range errs {
		assert.NoError(t, err)
	}
}

// client sends a stream and compares what comes back; each seventh breaks off.
func client(network, addr string, number int, secure bool) error {
	conn, err := net.Dial(network, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	var c interface {
		net.Conn
		CloseWrite() error
	}
	if secure {
		c = tls.Client(conn, clientTLS())
	} else {
		c = conn.(interface {
			net.Conn
			CloseWrite() error
		})
	}
	rng := rand.New(rand.NewPCG(uint64(number), 1))
	size := rng.IntN(64 << 10)
	if number%10 == 0 {
		size = rng.IntN(1 << 20)
	}
	data := random(size)
	resets, slow := number%7 == 3, number%5 == 1
	sent := make(chan error, 1)
	send := rand.New(rand.NewPCG(uint64(number), 2))
	go func() {
		end := size
		if resets {
			end = send.IntN(size + 1)
		}
		for at := 0; at < end; {
			n := min(1+send.IntN(1<<send.IntN(18)), end-at)
			if _, err := c.Write(data[at : at+n]); err != nil {
				sent <- err
				return
			}
			at += n
			if send.IntN(4) == 0 {
				time.Sleep(time.Duration(send.IntN(500)) * time.Microsecond)
			}
		}
		if resets {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			sent <- conn.Close()
			return
		}
		sent <- c.CloseWrite()
	}()
	got := 0
	for buf := make([]byte, 32<<10); ; {
		n, err := c.Read(buf[:1+rng.IntN(len(buf))])
		if got+n > size || !bytes.Equal(data[got:got+n], buf[:n]) {
			return errors.New("wrong bytes came back")
		}
		got += n
		if err != nil {
			sendErr := <-sent
			if resets || err == io.EOF && got == size && sendErr == nil {
				return nil
			}
			return errors.Join(err, sendErr, errors.New("not everything came back"))
		}
		if slow {
			time.Sleep(time.Duration(rng.IntN(500)) * time.Microsecond)
		}
	}
}
