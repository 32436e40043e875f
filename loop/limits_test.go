//go:build unix || windows

package loop_test

import (
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/loop"
)

// Pieces below the size at which data is sent directly: the socket takes all of them, and no
// Writable event follows.
// contract: L4
func TestConn_DrainedAgainWithoutEvent(t *testing.T) {
	eachQueue(t, "Drained follows each ErrFull, also if the system accepts everything at once", func(t *testing.T, open newPoll) {
		const total = 200 * 1500
		wrote := 0
		fill := func(c *loop.Conn) {
			for wrote < total {
				if _, err := c.Write(make([]byte, 1500)); err != nil {
					require.Equal(t, loop.ErrFull, err)
					return
				}
				wrote += 1500
			}
			c.Close()
		}
		h := &withDrained{handler: &handler{open: fill}, drained: fill}
		s := serve(t, 1, loop.Config{NewPoll: open, MaxOut: 4096}, nil, h)
		c := dial(t, s.addr)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
		n, err := io.Copy(io.Discard, c)
		require.NoError(t, err)
		require.EqualValues(t, total, n)
	})
}

// contract: L2
func TestConn_ResumeWhileBlocked(t *testing.T) {
	eachQueue(t, "what was left is passed again after Resume, once the unsent data has left", func(t *testing.T, open newPoll) {
		const big = 20 << 20
		var conn *loop.Conn
		h := &handler{open: func(c *loop.Conn) { conn = c }, data: func(c *loop.Conn, b []byte) int {
			switch b[0] {
			case '1':
				c.Pause()
				require.NoError(t, c.Loop().Post(func() {
					_, err := c.Write(make([]byte, big))
					require.NoError(t, err)
					c.Resume()
				}))
			case '2':
				_, err := c.Write([]byte("second"))
				require.NoError(t, err)
			}
			return 1
		}}
		s := serve(t, 1, loop.Config{NewPoll: open}, nil, h)
		c := dial(t, s.addr)
		_, err := c.Write([]byte("12"))
		require.NoError(t, err)
		await(t, "a part of the answer has left, and the rest is blocked", func() (blocked bool) {
			s.on(func() { blocked = conn != nil && conn.Buffered() > 16<<10 && conn.Buffered() < big })
			return blocked
		})
		require.NoError(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
		_, err = io.CopyN(io.Discard, c, big)
		require.NoError(t, err)
		expect(t, c, "second")
	})
}

// contract: L2
func TestConn_ResumeAfterEOF(t *testing.T) {
	eachQueue(t, "what was left is passed again after Resume, also after the end of the stream", func(t *testing.T, open newPoll) {
		calls := make(chan string, 10)
		n := 0
		h := &withEOF{handler: &handler{data: func(c *loop.Conn, b []byte) int {
			calls <- string(b)
			if n++; n == 1 {
				return 0
			}
			c.CloseWrite()
			return len(b)
		}}, eof: func(c *loop.Conn) {
			c.Pause()
			require.NoError(t, c.Loop().Post(c.Resume))
		}}
		s := serve(t, 1, loop.Config{NewPoll: open}, nil, h)
		c := dial(t, s.addr)
		_, err := c.Write([]byte("rest"))
		require.NoError(t, err)
		require.Equal(t, "rest", <-calls)
		require.NoError(t, c.CloseWrite())
		_, err = io.Copy(io.Discard, c)
		require.NoError(t, err)
		require.NoError(t, s.end())
		require.Len(t, calls, 1)
	})
}

// contract: L2
func TestConn_CloseAfterResume(t *testing.T) {
	eachQueue(t, "Close right after Resume still sees that the peer closes", func(t *testing.T, open newPoll) {
		closed := make(told, 1)
		var conn *loop.Conn
		h := &handler{open: func(c *loop.Conn) { conn = c; c.Pause() }, close: closed.close}
		s := serve(t, 1, loop.Config{NewPoll: open}, nil, h)
		c := dial(t, s.addr)
		await(t, "it is open", func() (is bool) { s.on(func() { is = conn != nil }); return is })
		s.on(func() {
			conn.Resume()
			conn.Close()
			conn.Pause() // which does nothing any more
			conn.Resume()
		})
		_, err := io.Copy(io.Discard, c)
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.NoError(t, closed.get(t))
	})
}

// contract: L7
func TestConn_DeadlineOutOfRange(t *testing.T) {
	eachQueue(t, "a deadline that is very far away is as good as none, and one that is long past ends the connection", func(t *testing.T, open newPoll) {
		far := []time.Time{time.Unix(1<<40, 0), time.Now().Add(math.MaxInt64), time.Unix(math.MaxInt64/2, 0)}
		past := []time.Time{time.Unix(0, 0), time.Unix(-1<<40, 0), time.Unix(math.MinInt64/2, 0), time.Now().Add(math.MinInt64)}
		closed := make(told, 1)
		var next time.Time
		h := &handler{
			open:  func(c *loop.Conn) { c.SetDeadline(next) },
			data:  func(c *loop.Conn, b []byte) int { _, _ = c.Write(b); return len(b) },
			close: closed.close,
		}
		s := serve(t, 1, loop.Config{NewPoll: open}, nil, h)
		for _, at := range far {
			s.on(func() { next = at })
			c := dial(t, s.addr)
			ask(t, c, "hello")
			s.on(func() {})
			ask(t, c, "hello")
			require.NoError(t, c.Close())
			require.NoError(t, closed.get(t), at)
		}
		for _, at := range past {
			s.on(func() { next = at })
			c := dial(t, s.addr)
			require.ErrorIs(t, closed.get(t), os.ErrDeadlineExceeded, at)
			require.NoError(t, c.Close())
		}
	})
}

// contract: L7
func TestConfig_LongestDurations(t *testing.T) {
	guard(t, "the longest time limits are as good as none")
	const longest = time.Duration(math.MaxInt64)
	cfg := loop.Config{Idle: longest, Handshake: longest, Grace: longest}
	closed := make(told, 1)
	h := &handler{
		data:  func(c *loop.Conn, b []byte) int { _, _ = c.Write(b); return len(b) },
		close: closed.close,
	}
	s := serve(t, 1, cfg, serverTLS(), h)
	fired := make(chan struct{})
	s.on(func() { s.loops[0].After(longest, func() { close(fired) }) })
	client := make(chan error, 1)
	s.on(func() {
		hc := &handler{open: func(c *loop.Conn) { _, _ = c.Write([]byte("x")) },
			data:  func(c *loop.Conn, b []byte) int { c.Close(); return len(b) },
			close: func(_ *loop.Conn, err error) { client <- err }, failed: func(_ *loop.Conn, err error) { client <- err }}
		_, err := s.loops[0].Dial("tcp", s.addr, longest, clientTLS(), hc)
		require.NoError(t, err)
	})
	require.NoError(t, <-client)
	require.NoError(t, closed.get(t))
	select {
	case <-fired:
		require.Fail(t, "the timer has fired")
	default:
	}

	// They are not in the way of others.
	s = serve(t, 1, cfg, nil, &handler{
		open:  func(c *loop.Conn) { c.SetDeadline(time.Now().Add(time.Millisecond)) },
		close: closed.close,
	})
	dial(t, s.addr)
	require.ErrorIs(t, closed.get(t), os.ErrDeadlineExceeded)
}

// contract: L7
func TestConn_NoDeadlineBeforeOpenOverTLS(t *testing.T) {
	guard(t, "a deadline that is set before Open replaces the limit of the handshake, and stays")
	closed := make(told, 1)
	s := serve(t, 1, loop.Config{Handshake: 100 * time.Millisecond}, nil, new(echo))
	addr := listenOn(t)
	s.on(func() {
		c, err := s.loops[0].Dial("tcp", addr, 0, clientTLS(), &handler{close: closed.close, failed: closed.close})
		require.NoError(t, err)
		c.SetDeadline(time.Time{})
	})
	select {
	case err := <-closed:
		require.Fail(t, "ended", "%v", err)
	case <-time.After(300 * time.Millisecond):
	}
}

// contract: L7
func TestConn_ResumedIsNotIdle(t *testing.T) {
	eachQueue(t, "the time for which a connection is paused is not idle time", func(t *testing.T, open newPoll) {
		const idle = 50 * time.Millisecond
		var conn *loop.Conn
		closed := make(told, 1)
		h := &handler{open: func(c *loop.Conn) { conn = c; c.Pause() }, close: closed.close}
		s := serve(t, 1, loop.Config{NewPoll: open, Idle: idle}, nil, h)
		dial(t, s.addr)
		time.Sleep(idle * 19 / 10)
		var resumed time.Time
		s.on(func() { resumed = time.Now(); conn.Resume() })
		require.ErrorIs(t, closed.get(t), os.ErrDeadlineExceeded)
		require.GreaterOrEqual(t, time.Since(resumed), idle*9/10)
	})
}

// contract: L9
func TestRun_HandlerEndsItsGoroutine(t *testing.T) {
	guard(t, "Run says that a handler has ended the goroutine, and ends the other loops")
	for name, where := range map[string]func(l *loop.Loop){
		"Post":  func(l *loop.Loop) { _ = l.Post(runtime.Goexit) },
		"After": func(l *loop.Loop) { l.After(0, runtime.Goexit) },
	} {
		t.Run(name, func(t *testing.T) {
			err := loop.Run(t.Context(), 2, loop.Config{}, func(l *loop.Loop) error {
				where(l)
				return nil
			})
			require.ErrorContains(t, err, "ended its goroutine")
		})
	}
}

func TestLoop_ListenFromHandlers(t *testing.T) {
	guard(t, "Listen may be called in functions of Post, on several loops")
	for network, addr := range streams(t) {
		t.Run(network, func(t *testing.T) {
			h := new(echo)
			s := run(t, 4, loop.Config{}, func(*server, *loop.Loop) error { return nil })
			type result struct {
				addr net.Addr
				err  error
			}
			results := make(chan result)
			for _, l := range s.loops {
				require.NoError(t, l.Post(func() {
					a, err := l.Listen(network, addr, nil, h)
					results <- result{a, err}
				}))
			}
			var at string
			for range s.loops {
				r := <-results
				require.NoError(t, r.err)
				require.True(t, at == "" || at == r.addr.String())
				at = r.addr.String()
			}
			for range 20 {
				c, err := net.Dial(network, at)
				require.NoError(t, err)
				ask(t, c, "hello")
				require.NoError(t, c.Close())
			}
		})
	}
}

func TestLoop_ListenTwice(t *testing.T) {
	guard(t, "a second Listen on an address fails, whatever the number of loops")
	for _, loops := range []int{1, 2} {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		addr := free.Addr().String()
		require.NoError(t, free.Close())
		run(t, loops, loop.Config{}, func(_ *server, l *loop.Loop) error {
			_, err := l.Listen("tcp", addr, nil, new(echo))
			require.NoError(t, err)
			_, err = l.Listen("tcp", addr, nil, new(echo))
			require.Error(t, err)
			return nil
		})
	}
}
