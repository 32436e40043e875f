//go:build unix || windows

package loop_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/loop"
)

// randomHandler does anything in each of its calls, and checks the order of the calls.
type randomHandler struct {
	t        *testing.T
	r        *rand.Rand // of one loop
	mu       sync.Mutex
	open     map[*loop.Conn]bool // true: open, false: over
	opened   int
	all      []*loop.Conn
	detached int
}

var errRandom = errors.New("a planned panic")

func (h *randomHandler) act(c *loop.Conn) {
	for range h.r.IntN(3) {
		on := c
		if len(h.all) > 0 && h.r.IntN(4) == 0 {
			on = h.all[h.r.IntN(len(h.all))]
		}
		switch h.r.IntN(16) {
		case 0:
			on.Pause()
		case 1, 2:
			on.Resume()
		case 3:
			on.Close()
		case 4:
			on.Abort()
		case 5:
			on.CloseWrite()
		case 6:
			on.SetDeadline(time.Now().Add(time.Duration(h.r.IntN(20)-2) * time.Millisecond))
		case 7:
			if sock, _, _, err := on.Detach(); err == nil {
				h.mu.Lock()
				assert.True(h.t, h.open[on])
				h.open[on] = false
				h.detached++
				h.mu.Unlock()
				if _, err := c.Loop().Adopt(sock, nil, h); err != nil {
					_ = sock.Close()
				}
			}
		case 8, 9, 10, 11:
			_, _ = on.Write(make([]byte, h.r.IntN(1<<h.r.IntN(18))))
		case 12:
			_ = c.Loop().Post(func() { h.act(on) })
		case 13:
			c.Loop().After(time.Duration(h.r.IntN(1000))*time.Microsecond, func() { h.act(on) })
		case 14:
			if h.r.IntN(8) == 0 {
				panic(errRandom)
			}
		case 15:
			_, _ = on.RemoteAddr(), on.TLS()
		}
	}
}

func (h *randomHandler) Open(c *loop.Conn) {
	h.mu.Lock()
	_, seen := h.open[c]
	assert.False(h.t, seen, "Open twice")
	h.open[c] = true
	h.opened++
	h.mu.Unlock()
	h.all = append(h.all, c)
	c.Resume()
	h.act(c)
}

func (h *randomHandler) is(c *loop.Conn, call string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	assert.True(h.t, h.open[c], call)
}

func (h *randomHandler) Data(c *loop.Conn, b []byte) int {
	h.is(c, "Data")
	n := h.r.IntN(len(b) + 1)
	h.act(c)
	return n
}

func (h *randomHandler) Drained(c *loop.Conn) { h.is(c, "Drained"); h.act(c) }
func (h *randomHandler) EOF(c *loop.Conn)     { h.is(c, "EOF"); h.act(c) }

func (h *randomHandler) Close(c *loop.Conn, err error) {
	h.mu.Lock()
	assert.True(h.t, h.open[c], "Close without Open, or twice")
	h.open[c] = false
	h.mu.Unlock()
	h.act(c)
}

func (h *randomHandler) Failed(c *loop.Conn, err error) {
	h.mu.Lock()
	_, seen := h.open[c]
	assert.False(h.t, seen, "Failed after Open")
	h.mu.Unlock()
	h.act(c)
}

// contract: L1
func TestHandler_CloseOnceForEachOpen(t *testing.T) {
	eachQueue(t, "each Open has one Close, unless the connection is detached, whatever the handler does where", func(t *testing.T, open newPoll) {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
				before := openFiles(t)
				var server, client *tls.Config
				if secure {
					server, client = serverTLS(), clientTLS()
				}
				for seed := range uint64(fixture.Seeds(3)) {
					h := &randomHandler{t: t, r: rand.New(rand.NewPCG(seed, 0)), open: make(map[*loop.Conn]bool)}
					cfg := loop.Config{NewPoll: open, MaxConns: 30, MaxIn: 1 << 10, MaxOut: 8 << 10, Idle: 30 * time.Millisecond,
						Grace: 20 * time.Millisecond, OnPanic: func(_ *loop.Conn, v any) { assert.Equal(t, errRandom, v) }}
					ctx, stop := context.WithCancel(t.Context())
					require.NoError(t, loop.Run(ctx, 1, cfg, func(l *loop.Loop) error {
						addr, err := l.Listen("tcp", "127.0.0.1:0", server, h)
						var wait func()
						wait = func() {
							if h.opened < 10 {
								l.After(time.Millisecond, wait)
								return
							}
							l.After(20*time.Millisecond, stop)
						}
						wait()
						for range 20 {
							if err == nil {
								var c *loop.Conn
								if c, err = l.Dial("tcp", addr.String(), time.Second, client, h); err == nil {
									_, _ = c.Write(make([]byte, 3000))
								}
							}
						}
						return err
					}))
					stop()
					for _, open := range h.open {
						require.False(t, open, "no Close")
					}
				}
				require.Equal(t, before, openFiles(t))
			})
		}
	})
}

// openFiles returns how many descriptors the process has open, or 0 if the system does not tell.
func openFiles(t *testing.T) int {
	if runtime.GOOS != "linux" {
		return 0
	}
	files, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(files)
}
