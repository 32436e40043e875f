//go:build unix || windows

package loop_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
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
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/loop"
	"github.com/epore/epore/socket"
)

// told is what Close is told, and Failed.
type told chan error

func (c told) close(_ *loop.Conn, err error) { c <- err }

func (c told) get(t testing.TB) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(fixture.Soon):
		require.Fail(t, "Close is not called")
		return nil
	}
}

// contract: L3
func TestConn_WritesLeaveTogether(t *testing.T) {
	eachQueue(t, "what one event makes a handler write leaves at once, when the handler has returned", func(t *testing.T, open newPoll) {
		var others []*loop.Conn
		waiting := make(chan int, 1)
		h := &handler{
			open: func(c *loop.Conn) { others = append(others, c) },
			data: func(c *loop.Conn, b []byte) int {
				n := 0
				for range 100 {
					for _, o := range others {
						_, err := o.Write([]byte("answer"))
						require.NoError(t, err)
					}
				}
				for _, o := range others {
					n += o.Buffered()
				}
				waiting <- n
				return len(b)
			},
		}
		s := serve(t, 1, loop.Config{NewPoll: open}, nil, h)
		a, b := dial(t, s.addr), dial(t, s.addr)
		await(t, "both are open", func() (is bool) { s.on(func() { is = len(others) == 2 }); return is })
		_, err := a.Write([]byte("x"))
		require.NoError(t, err)
		require.Equal(t, 2*600, <-waiting, "nothing has left inside the handler")
		expect(t, a, strings.Repeat("answer", 100))
		expect(t, b, strings.Repeat("answer", 100))
	})
}

// A large write goes to the system directly, and behind what was written before.
// contract: L3
func TestConn_LargeWrites(t *testing.T) {
	eachQueue(t, "writes of any size arrive in order", func(t *testing.T, open newPoll) {
		body := random(300 << 10)
		h := &handler{data: func(c *loop.Conn, b []byte) int {
			for _, part := range [][]byte{[]byte("head"), body[:5000], []byte("-"), body, nil, body[:100]} {
				_, err := c.Write(part)
				require.NoError(t, err)
			}
			return len(b)
		}}
		s := serve(t, 1, loop.Config{NewPoll: open}, nil, h)
		want := bytes.Join([][]byte{[]byte("head"), body[:5000], []byte("-"), body, body[:100]}, nil)
		c := dial(t, s.addr)
		for range 3 {
			_, err := c.Write([]byte("x"))
			require.NoError(t, err)
			got := make([]byte, len(want))
			_, err = io.ReadFull(c, got)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
		}
	})
}

// A paused connection is not read, and hears of a reset all the same.
// contract: L5
func TestConn_PausedHearsOfAReset(t *testing.T) {
	eachQueue(t, "a paused connection hears of a reset", func(t *testing.T, open newPoll) {
		closed := make(told, 1)
		var conn *loop.Conn
		var got strings.Builder
		h := &handler{
			open:  func(c *loop.Conn) { conn = c; c.Pause() },
			data:  func(_ *loop.Conn, b []byte) int { got.Write(b); return len(b) },
			close: closed.close,
		}
		s := serve(t, 1, loop.Config{NewPoll: open}, nil, h)
		c := dial(t, s.addr)
		_, err := c.Write([]byte("unread"))
		require.NoError(t, err)
		await(t, "it is open", func() (is bool) { s.on(func() { is = conn != nil }); return is })
		s.on(func() { require.Zero(t, got.Len()) })
		s.on(func() { conn.Resume() })
		await(t, "it is read", func() (is bool) { s.on(func() { is = got.String() == "unread" }); return is })
		s.on(func() { conn.Pause() })
		_, err = c.Write([]byte("never read"))
		require.NoError(t, err)
		require.NoError(t, c.SetLinger(0))
		require.NoError(t, c.Close())
		require.Error(t, closed.get(t))
		s.on(func() { require.Equal(t, "unread", got.String()) })
	})
}

// The same where the peer has ended its half before, and the handler goes on writing.
// contract: L5
func TestConn_HalfClosedHearsOfAReset(t *testing.T) {
	eachQueue(t, "a connection whose peer has ended its half hears of a reset", func(t *testing.T, open newPoll) {
		closed, ended := make(told, 1), make(chan struct{})
		h := &withEOF{
			handler: &handler{close: closed.close},
			eof: func(c *loop.Conn) {
				_, err := c.Write([]byte("go on"))
				require.NoError(t, err)
				close(ended)
			},
		}
		s := serve(t, 1, loop.Config{NewPoll: open}, nil, h)
		c := dial(t, s.addr)
		names := s.addr + "->" + c.LocalAddr().String() + ": "
		require.NoError(t, c.CloseWrite())
		<-ended
		expect(t, c, "go on")
		require.NoError(t, c.SetLinger(0))
		require.NoError(t, c.Close())
		err := closed.get(t)
		require.ErrorContains(t, err, "reset")
		if runtime.GOOS == "linux" { // it knows a lost peer
			require.ErrorContains(t, err, names)
		}
	})
}

// What could give events for ever to a connection that waits for none.
// contract: L5
func TestConn_PausedDoesNotSpin(t *testing.T) {
	eachQueue(t, "a paused connection costs nothing", func(t *testing.T, open newPoll) {
		var counter *countingQueue
		counted := func() (*epore.Poll, error) {
			counter = counting(t)
			return epore.NewWith(counter)
		}
		var conn *loop.Conn
		h := &handler{open: func(c *loop.Conn) { conn = c; c.Pause() }}
		s := serve(t, 1, loop.Config{NewPoll: counted}, nil, h)
		c := dial(t, s.addr)
		await(t, "it is open", func() (is bool) { s.on(func() { is = conn != nil }); return is })
		sendUrgent(t, c)
		_, err := c.Write([]byte("data"))
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		s.on(func() { conn.CloseWrite() })
		_, err = c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		time.Sleep(20 * time.Millisecond) // both halves are down, and there is urgent data
		before := counter.waits.Load()
		time.Sleep(50 * time.Millisecond)
		require.LessOrEqual(t, counter.waits.Load()-before, int64(10))
		s.on(func() { conn.Resume() }) // it reads data, and the end, which closes it
		await(t, "it is closed", func() (is bool) { s.on(func() { is = conn.RemoteAddr() == nil }); return is })
	})
}

// What Data leaves comes again, with what has arrived since or after Resume.
// contract: L2
func TestConn_RestComesAgain(t *testing.T) {
	eachQueue(t, "Resume brings what was left, without new bytes", func(t *testing.T, open newPoll) {
		calls := make(chan string, 20)
		var conn *loop.Conn
		h := &handler{
			open: func(c *loop.Conn) { conn = c },
			data: func(c *loop.Conn, b []byte) int {
				calls <- string(b)
				if bytes.HasPrefix(b, []byte("p")) {
					c.Pause()
				}
				return 1
			},
		}
		s := serve(t, 1, loop.Config{NewPoll: open, MaxIn: 4}, nil, h)
		c := dial(t, s.addr)
		send := func(text string) {
			_, err := c.Write([]byte(text))
			require.NoError(t, err)
		}
		send("abc")
		require.Equal(t, "abc", <-calls)
		send("pq")
		require.Equal(t, "bcpq", <-calls)
		send("r")
		require.Equal(t, "cpqr", <-calls)
		send("s")
		require.Equal(t, "pqrs", <-calls)
		send("while it is paused")
		s.on(func() { conn.Resume() })
		require.Equal(t, "qrs", <-calls)
		require.Equal(t, "rswhile it is paused", <-calls)
	})
}

// contract: L2
func TestConn_TooLong(t *testing.T) {
	eachQueue(t, "a message beyond MaxIn ends the connection", func(t *testing.T, open newPoll) {
		closed := make(told, 1)
		h := &handler{data: func(*loop.Conn, []byte) int { return 0 }, close: closed.close}
		s := serve(t, 1, loop.Config{NewPoll: open, MaxIn: 100_000}, nil, h)
		c := dial(t, s.addr)
		for {
			if _, err := c.Write(make([]byte, 10_000)); err != nil {
				break
			}
		}
		require.ErrorIs(t, closed.get(t), loop.ErrTooLong)
	})
}

// A peer that never reads: Write says ErrFull, and Drained when it may go on.
// contract: L4
func TestConn_FullAndDrained(t *testing.T) {
	eachQueue(t, "what waits to be sent is bounded, and Drained follows ErrFull", func(t *testing.T, open newPoll) {
		const most = 200_000
		piece := random(10_000)
		wrote, drained, full := 0, make(chan int, 100), make(chan int, 1)
		fill := func(c *loop.Conn) {
			for wrote < 30_000_000 {
				n, err := c.Write(piece)
				require.LessOrEqual(t, c.Buffered(), most)
				if err != nil {
					require.Equal(t, loop.ErrFull, err)
					require.Zero(t, n)
					select {
					case full <- wrote:
					default:
					}
					return
				}
				wrote += n
			}
			c.Close()
		}
		closed := make(told, 1)
		h := &withDrained{handler: &handler{open: fill, close: closed.close}, drained: func(c *loop.Conn) {
			require.Zero(t, c.Buffered())
			select {
			case drained <- wrote:
			default:
			}
			fill(c)
		}}
		s := serve(t, 1, loop.Config{NewPoll: open, MaxOut: most}, nil, h)
		c := dial(t, s.addr)
		<-full
		got, err := io.Copy(checker(piece), c)
		require.NoError(t, err)
		require.EqualValues(t, 30_000_000, got)
		require.NotEmpty(t, drained)
		require.NoError(t, c.Close())
		require.NoError(t, closed.get(t))
	})
}

// checker takes pieces, one after the other, and nothing else.
func checker(piece []byte) io.Writer { return &check{piece: piece} }

type check struct {
	piece []byte
	at    int
}

func (c *check) Write(b []byte) (int, error) {
	for i := 0; i < len(b); {
		n := min(len(b)-i, len(c.piece)-c.at)
		if !bytes.Equal(b[i:i+n], c.piece[c.at:c.at+n]) {
			return i, errors.New("wrong bytes")
		}
		i += n
		c.at = (c.at + n) % len(c.piece)
	}
	return len(b), nil
}

// A handler that only answers needs no look at ErrFull: the loop stops reading.
// contract: L4
func TestConn_PeerThatAsksAndNeverReads(t *testing.T) {
	eachQueue(t, "a peer that never reads is not read any more", func(t *testing.T, open newPoll) {
		h := new(echo)
		s := serve(t, 1, loop.Config{NewPoll: open, MaxOut: 256 << 10}, nil, h)
		c := dial(t, s.addr)
		piece := random(1 << 20)
		sent := 0
		const much = 200 << 20 // more than all buffers of the system together
		for sent < much {
			require.NoError(t, c.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
			n, err := c.Write(piece[sent%len(piece):])
			sent += n
			if err != nil {
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				break
			}
		}
		require.Less(t, sent, much, "the loop takes everything")
		require.NoError(t, c.CloseWrite())
		got, err := io.Copy(checker(piece), c)
		require.NoError(t, err)
		require.EqualValues(t, sent, got)
		require.NoError(t, c.Close())
		await(t, "Close", func() bool { return h.closed.Load() == 1 })
		require.NoError(t, h.only(t))
	})
}

// Half-closed at each point, with and without a handler for it.
// contract: L6
func TestConn_HalfClose(t *testing.T) {
	eachQueue(t, "what was asked before the end is answered, and then comes the end", func(t *testing.T, open newPoll) {
		closed := make(told, 10)
		lines := func(c *loop.Conn, b []byte) int {
			used := 0
			for {
				i := bytes.IndexByte(b[used:], '\n')
				if i < 0 {
					return used
				}
				_, _ = c.Write(b[used : used+i+1])
				used += i + 1
			}
		}
		h := &handler{data: lines, close: closed.close}
		s := serve(t, 1, loop.Config{NewPoll: open}, nil, h)
		for _, sent := range []string{"", "one\n", "one\ntwo\nth"} {
			c := dial(t, s.addr)
			_, err := c.Write([]byte(sent))
			require.NoError(t, err)
			require.NoError(t, c.CloseWrite())
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Equal(t, sent[:strings.LastIndex(sent, "\n")+1], string(got))
			require.NoError(t, c.Close())
			err = closed.get(t)
			if strings.HasSuffix(sent, "th") {
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			} else {
				require.NoError(t, err)
			}
		}
		// The loop's half first.
		h2 := &handler{
			open:  func(c *loop.Conn) { _, _ = c.Write([]byte("bye")); c.CloseWrite(); c.CloseWrite() },
			data:  func(c *loop.Conn, b []byte) int { _, err := c.Write(b); require.Error(t, err); return len(b) },
			close: closed.close,
		}
		s = serve(t, 1, loop.Config{NewPoll: open}, nil, h2)
		c := dial(t, s.addr)
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, "bye", string(got))
		_, err = c.Write([]byte("still heard"))
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.NoError(t, closed.get(t))
	})
}

// A connection ends when both halves have, whoever ends which first.
// contract: L6
func TestConn_EndsWithBothHalves(t *testing.T) {
	eachQueue(t, "a connection ends when both halves have", func(t *testing.T, open newPoll) {
		for name, conf := range map[string]*tls.Config{"plain": nil, "TLS": serverTLS()} {
			for _, first := range []string{"peer", "loop"} {
				closed := make(told, 1)
				h := &withEOF{
					handler: &handler{
						open:  func(c *loop.Conn) { _, _ = c.Write([]byte("hello")) },
						close: closed.close,
					},
					eof: func(c *loop.Conn) { _, _ = c.Write([]byte("bye")); c.CloseWrite() },
				}
				if first == "loop" {
					h.handler.open = func(c *loop.Conn) { _, _ = c.Write([]byte("hellobye")); c.CloseWrite() }
					h.eof = func(*loop.Conn) {}
				}
				s := serve(t, 1, loop.Config{NewPoll: open, Grace: time.Hour}, conf, h)
				raw := dial(t, s.addr)
				var c net.Conn = raw
				if conf != nil {
					c = tls.Client(raw, clientTLS())
				}
				expect(t, c, "hello")
				if first == "loop" {
					expect(t, c, "bye")
				}
				require.NoError(t, c.(interface{ CloseWrite() error }).CloseWrite())
				if first == "peer" {
					expect(t, c, "bye")
				}
				require.NoError(t, closed.get(t), "%s, %s first", name, first)
				_, err := c.Read(make([]byte, 1))
				require.Equal(t, io.EOF, err)
				require.NoError(t, s.end())
			}
		}
	})
}

// Close sends what was written, although the peer sends on.
// contract: L6
func TestConn_CloseSendsWhatWasWritten(t *testing.T) {
	eachQueue(t, "Close loses nothing that was written", func(t *testing.T, open newPoll) {
		answer := random(800 << 10)
		closed := make(told, 1)
		h := &handler{
			data: func(c *loop.Conn, b []byte) int {
				_, err := c.Write(answer)
				require.NoError(t, err)
				c.Close()
				_, err = c.Write([]byte("x"))
				require.ErrorIs(t, err, net.ErrClosed)
				return 0
			},
			close: closed.close,
		}
		s := serve(t, 1, loop.Config{NewPoll: open, Grace: time.Minute}, nil, h)
		c := dial(t, s.addr)
		_, err := c.Write(make([]byte, 100_000)) // most of it is never looked at
		require.NoError(t, err)
		got, err := io.ReadAll(c)
		require.NoError(t, err, "no reset")
		require.True(t, bytes.Equal(answer, got))
		require.NoError(t, c.Close())
		require.NoError(t, closed.get(t))
	})
}

// A peer that does not take it has so much time as Grace.
// contract: L6
func TestConn_CloseEnds(t *testing.T) {
	eachQueue(t, "closing ends after Grace", func(t *testing.T, open newPoll) {
		closed := make(told, 1)
		h := &handler{open: func(c *loop.Conn) { _, _ = c.Write(make([]byte, 30<<20)); c.Close() }, close: closed.close}
		s := serve(t, 1, loop.Config{NewPoll: open, Grace: 50 * time.Millisecond}, nil, h)
		began := time.Now()
		c := dial(t, s.addr)
		require.ErrorIs(t, closed.get(t), os.ErrDeadlineExceeded)
		require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)
		_, err := io.Copy(io.Discard, c)
		requireReset(t, err)
	})
}

// contract: L1
func TestConn_Abort(t *testing.T) {
	eachQueue(t, "Abort resets, and Close is told once the handler has returned", func(t *testing.T, open newPoll) {
		inside, closed := false, make(told, 1)
		h := &handler{
			data: func(c *loop.Conn, b []byte) int {
				inside = true
				c.Abort()
				c.Abort()
				c.Close()
				c.Pause()
				_, err := c.Write([]byte("x"))
				require.ErrorIs(t, err, net.ErrClosed)
				inside = false
				return len(b)
			},
			close: func(_ *loop.Conn, err error) { require.False(t, inside); closed <- err },
		}
		s := serve(t, 1, loop.Config{NewPoll: open}, nil, h)
		c := dial(t, s.addr)
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
		require.ErrorIs(t, closed.get(t), loop.ErrAborted)
		_, err = io.Copy(io.Discard, c)
		requireReset(t, err)
	})
}

// requireReset checks that reading ended with a reset. Wine just ends the stream.
func requireReset(t testing.TB, err error) {
	t.Helper()
	if !fixture.Wine {
		require.Error(t, err, "a reset")
	}
}

// contract: L7
func TestConn_Idle(t *testing.T) {
	eachQueue(t, "only what is idle is ended, and not early", func(t *testing.T, open newPoll) {
		// On a machine that stalls for longer than the idle time the busy client is idle,
		// too. Then a longer time has to show the difference.
		for idle := 100 * time.Millisecond; ; idle *= 4 {
			closed := make(told, 10)
			h := &handler{
				data: func(c *loop.Conn, b []byte) int {
					if b[0] == 'p' {
						c.Pause() // by the handler's own will: not idle
					}
					_, _ = c.Write(b)
					return len(b)
				},
				close: closed.close,
			}
			s := serve(t, 1, loop.Config{NewPoll: open, Idle: idle, Grace: 20 * time.Millisecond}, nil, h)
			began := time.Now()
			silent, busy, paused := dial(t, s.addr), dial(t, s.addr), dial(t, s.addr)
			ask(t, paused, "p")
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
			require.ErrorIs(t, closed.get(t), os.ErrDeadlineExceeded)
			require.GreaterOrEqual(t, time.Since(began), idle, "early")
			_, serr := silent.Read(make([]byte, 1))
			require.Equal(t, io.EOF, serr)
			require.NoError(t, paused.SetReadDeadline(time.Now().Add(time.Millisecond)))
			_, perr := paused.Read(make([]byte, 1))
			require.ErrorIs(t, perr, os.ErrDeadlineExceeded, "it is still open")
			if err == nil && len(closed) == 0 {
				require.NoError(t, s.end())
				return
			}
			longest = max(longest, time.Since(last))
			require.Greater(t, longest, idle/2, "a busy connection was closed")
			require.Less(t, idle, 10*time.Second)
			require.NoError(t, s.end())
		}
	})
}

// A peer that sends a byte now and then is not idle. A deadline ends it.
// contract: L7
func TestConn_Deadline(t *testing.T) {
	eachQueue(t, "a deadline ends a connection whatever happens on it", func(t *testing.T, open newPoll) {
		closed := make(told, 1)
		var slow *loop.Conn
		h := &handler{
			open: func(c *loop.Conn) {
				slow = c
				c.SetDeadline(time.Now().Add(time.Hour))
				c.SetDeadline(time.Time{})
				c.SetDeadline(time.Now().Add(100 * time.Millisecond))
			},
			close: closed.close,
		}
		s := serve(t, 1, loop.Config{NewPoll: open, Idle: time.Hour}, nil, h)
		began := time.Now()
		c := dial(t, s.addr)
		for range 1000 {
			if _, err := c.Write([]byte("x")); err != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		require.ErrorIs(t, closed.get(t), os.ErrDeadlineExceeded)
		require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond, "early")
		s.on(func() { slow.SetDeadline(time.Now()) }) // it has ended: nothing happens

		// One that was taken back, and one that was moved, do nothing.
		s = serve(t, 1, loop.Config{NewPoll: open}, nil, &handler{
			open: func(c *loop.Conn) { c.SetDeadline(time.Now().Add(time.Millisecond)); c.SetDeadline(time.Time{}) },
			data: func(c *loop.Conn, b []byte) int { _, _ = c.Write(b); return len(b) },
		})
		c = dial(t, s.addr)
		ask(t, c, "a")
		time.Sleep(5 * time.Millisecond)
		ask(t, c, "b")
	})
}

// Many deadlines, set and moved: each ends its connection, in order.
// contract: L7
func TestConn_ManyDeadlines(t *testing.T) {
	guard(t, "deadlines come in order, and each once")
	const n = 100
	var conns []*loop.Conn
	var ended []time.Duration
	var began time.Time
	done := make(chan struct{})
	h := &handler{
		open: func(c *loop.Conn) { conns = append(conns, c) },
		close: func(c *loop.Conn, err error) {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.GreaterOrEqual(t, time.Since(began), c.Value().(time.Duration), "early")
			if ended = append(ended, c.Value().(time.Duration)); len(ended) == n {
				close(done)
			}
		},
	}
	s := serve(t, 1, loop.Config{}, nil, h)
	for range n {
		dial(t, s.addr)
	}
	await(t, "all are open", func() (is bool) { s.on(func() { is = len(conns) == n }); return is })
	s.on(func() {
		began = time.Now()
		for i, c := range conns {
			d := time.Duration(i*7919%n) * time.Millisecond
			c.SetValue(d)
			c.SetDeadline(began.Add(d + time.Duration(i%3-1)*50*time.Millisecond))
			c.SetDeadline(began.Add(d))
		}
	})
	<-done
	require.IsIncreasing(t, ended)
}

// contract: L11
func TestConn_Detach(t *testing.T) {
	eachQueue(t, "a detached connection is the caller's, with what was not used and not sent", func(t *testing.T, open newPoll) {
		type parts struct {
			sock    *socket.Conn
			in, out []byte
		}
		detached := make(chan parts, 1)
		var conn *loop.Conn
		closes := atomic.Int32{}
		h := &handler{
			open: func(c *loop.Conn) { conn = c },
			data: func(c *loop.Conn, b []byte) int {
				if !bytes.Contains(b, []byte("detach")) {
					return 1
				}
				_, err := c.Write([]byte("unsent"))
				require.NoError(t, err)
				sock, in, out, err := c.Detach()
				require.NoError(t, err)
				detached <- parts{sock, in, out}
				_, err = c.Write([]byte("x"))
				require.ErrorIs(t, err, net.ErrClosed)
				_, _, _, err = c.Detach()
				require.ErrorIs(t, err, net.ErrClosed)
				return 0
			},
			close: func(*loop.Conn, error) { closes.Add(1) },
		}
		s := serve(t, 1, loop.Config{NewPoll: open}, nil, h)
		c := dial(t, s.addr)
		_, err := c.Write([]byte("detach me"))
		require.NoError(t, err)
		p := <-detached
		require.Equal(t, "detach me", string(p.in), "inside Data: all of it")
		require.Equal(t, "unsent", string(p.out))
		_, err = p.sock.Write([]byte("by hand"))
		require.NoError(t, err)
		expect(t, c, "by hand")
		require.NoError(t, p.sock.Close())

		c = dial(t, s.addr)
		_, err = c.Write([]byte("ab"))
		require.NoError(t, err)
		var in []byte
		await(t, "Data has left b", func() bool {
			s.on(func() {
				if sock, rest, _, err := conn.Detach(); err == nil {
					if len(rest) == 0 { // too early: put it back
						c, err := s.loops[0].Adopt(sock, nil, h)
						require.NoError(t, err)
						conn = c
						return
					}
					in = rest
					require.NoError(t, sock.Close())
				}
			})
			return in != nil
		})
		require.Equal(t, "b", string(in))
		require.NoError(t, s.end())
		require.Zero(t, closes.Load())
	})
}

// contract: L1, L11
func TestLoop_DialAndAdopt(t *testing.T) {
	eachQueue(t, "connections are made, adopted, and refused", func(t *testing.T, open newPoll) {
		h := new(echo)
		s := serve(t, 1, loop.Config{NewPoll: open}, nil, h)
		got, failed := make(chan string, 1), make(told, 1)
		client := &handler{
			open:   func(c *loop.Conn) { _, _ = c.Write([]byte(" and after")) },
			data:   func(_ *loop.Conn, b []byte) int { got <- string(b); return len(b) },
			failed: failed.close,
		}
		s.on(func() {
			c, err := s.loops[0].Dial("tcp", s.addr, time.Minute, nil, client)
			require.NoError(t, err)
			_, err = c.Write([]byte("before"))
			require.NoError(t, err)
			require.Same(t, s.loops[0], c.Loop())
		})
		require.Equal(t, "before and after", <-got)

		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, l.Close())
		s.on(func() {
			if _, err := s.loops[0].Dial("tcp", l.Addr().String(), 0, nil, client); err != nil {
				failed <- err
			}
		})
		require.ErrorContains(t, failed.get(t), "refused")
		s.on(func() {
			_, err := s.loops[0].Dial("tcp", "localhost:80", 0, nil, client)
			require.ErrorContains(t, err, "resolve")
			_, err = s.loops[0].Dial("tcp", s.addr, 0, nil, nil)
			require.Error(t, err)
			_, err = s.loops[0].Adopt(nil, nil, h)
			require.Error(t, err)
		})

		a, b := pair(t)
		s.on(func() {
			c, err := s.loops[0].Adopt(a, nil, h)
			require.NoError(t, err)
			require.Nil(t, c.TLS())
			c.SetValue(7)
			require.Equal(t, 7, c.Value())
		})
		_, err = b.Write([]byte("hello"))
		require.NoError(t, err)
		buf := make([]byte, 5)
		await(t, "the echo", func() bool { n, _ := b.Read(buf); return n == 5 })
	})
}

// An attempt to connect that goes nowhere ends with its limit.
// contract: L7, E1
func TestLoop_DialLimit(t *testing.T) {
	eachQueue(t, "Dial has a limit", func(t *testing.T, open newPoll) {
		l, err := socket.Listen("tcp", "127.0.0.1:0", socket.Backlog(1))
		require.NoError(t, err)
		defer l.Close()
		failed := make(told, 100)
		h := &handler{failed: failed.close, close: failed.close}
		s := run(t, 1, loop.Config{NewPoll: open}, func(s *server, lp *loop.Loop) error {
			for range 20 { // more than its backlog
				if _, err := lp.Dial("tcp", l.Addr().String(), 100*time.Millisecond, clientTLS(), h); err != nil {
					return err
				}
			}
			return nil
		})
		for range 20 {
			err := failed.get(t)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.ErrorContains(t, err, "dial tcp ")
			require.ErrorContains(t, err, l.Addr().String()+": ")
		}
		require.NoError(t, s.end())
	})
}

// contract: L13
func TestLoop_SteadyStateAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	eachQueue(t, "a message allocates nothing", func(t *testing.T, open newPoll) {
		if isKqueue(t) {
			t.Skip("simulated kernels allocate")
		}
		s := serve(t, 1, loop.Config{NewPoll: open, Idle: time.Hour}, nil, new(echo))
		c := dial(t, s.addr)
		buf := make([]byte, 10_000)
		for _, size := range []int{10, 10_000} {
			require.Zero(t, testing.AllocsPerRun(300, func() {
				_, _ = c.Write(buf[:size])
				_, _ = io.ReadFull(c, buf[:size])
			}))
		}
	})
}

// A message to many connections needs a buffer for each until the end of the batch.
// contract: L13
func TestLoop_BroadcastAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	eachQueue(t, "a message to many connections allocates nothing", func(t *testing.T, open newPoll) {
		if isKqueue(t) {
			t.Skip("simulated kernels allocate")
		}
		var all []*loop.Conn
		s := serve(t, 1, loop.Config{NewPoll: open}, nil, &handler{
			open: func(c *loop.Conn) { all = append(all, c) },
			data: func(_ *loop.Conn, b []byte) int {
				for _, c := range all {
					_, _ = c.Write(b)
				}
				return len(b)
			},
		})
		buf := make([]byte, 100)
		var clients []*net.TCPConn
		for range fixture.Affordable(t, 200) {
			clients = append(clients, dial(t, s.addr))
		}
		await(t, "all are open", func() (is bool) {
			s.on(func() { is = len(all) == len(clients) })
			return is
		})
		require.Zero(t, testing.AllocsPerRun(20, func() {
			_, _ = clients[0].Write(buf)
			for _, c := range clients {
				_, _ = io.ReadFull(c, buf)
			}
		}))
	})
}

// contract: L9
func TestLoop_LeavesNothing(t *testing.T) {
	eachQueue(t, "no goroutine and no descriptor is left", func(t *testing.T, open newPoll) {
		before, descriptors := runtime.NumGoroutine(), fixture.OpenDescriptors(1<<10)
		for range 3 {
			s := serve(t, 2, loop.Config{NewPoll: open, Idle: time.Hour, Grace: -1}, serverTLS(), new(echo))
			clients := []*net.TCPConn{dial(t, s.addr), dial(t, s.addr), dial(t, s.addr)}
			s.on(func() {
				s.loops[0].After(time.Hour, func() {})
				_, err := s.loops[0].Dial("tcp", s.addr, time.Hour, clientTLS(), new(echo))
				require.NoError(t, err)
			})
			require.NoError(t, s.end())
			for _, c := range clients {
				require.NoError(t, c.Close())
			}
		}
		awaitGoroutines(t, before)
		await(t, "descriptors are closed", func() bool { return fixture.OpenDescriptors(1<<10) <= descriptors })
	})
}

// contract: L9
func TestLoop_EndingSendsWhatIsWritten(t *testing.T) {
	eachQueue(t, "what was written leaves before the end", func(t *testing.T, open newPoll) {
		h := new(echo)
		s := serve(t, 1, loop.Config{NewPoll: open, Grace: time.Minute, MaxOut: 64 << 20}, nil, h)
		c, bystander := dial(t, s.addr), dial(t, s.addr)
		ask(t, bystander, "x")
		data := random(30 << 20)
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
		sent, err := c.Write(data)
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
		s.stop()
		_, err = bystander.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		require.NoError(t, bystander.Close())
		got, err := io.ReadAll(c)
		require.NoError(t, err, "the end is no reset")
		require.NotEmpty(t, got)
		require.LessOrEqual(t, len(got), sent)
		require.True(t, bytes.Equal(data[:len(got)], got))
		require.NoError(t, c.Close())
		require.NoError(t, s.end())
		for _, err := range h.errs {
			require.ErrorIs(t, err, loop.ErrEnding)
		}
	})
}

// contract: L9
func TestLoop_EndingEnds(t *testing.T) {
	eachQueue(t, "who does not take what was sent is reset after Grace", func(t *testing.T, open newPoll) {
		h := &handler{open: func(c *loop.Conn) { _, _ = c.Write(make([]byte, 30<<20)) }}
		s := serve(t, 1, loop.Config{NewPoll: open, Grace: 50 * time.Millisecond}, nil, h)
		c := dial(t, s.addr)
		_, err := c.Read(make([]byte, 1))
		require.NoError(t, err)
		began := time.Now()
		require.NoError(t, s.end())
		require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond, "early")
		_, err = io.Copy(io.Discard, c)
		requireReset(t, err)
		_, err = net.Dial("tcp", s.addr)
		require.Error(t, err, "the listener is closed")
	})
}

// contract: L10
func TestLoop_Post(t *testing.T) {
	eachQueue(t, "what Post takes is called, in order", func(t *testing.T, open newPoll) {
		s := run(t, 1, loop.Config{NewPoll: open}, func(*server, *loop.Loop) error { return nil })
		const senders, each = 8, 500
		var next [senders]int
		var all sync.WaitGroup
		for i := range senders {
			all.Go(func() {
				for j := range each {
					require.NoError(t, s.loops[0].Post(func() {
						require.Equal(t, j, next[i])
						next[i]++
					}))
				}
			})
		}
		all.Wait()
		l := s.loops[0]
		taken, called := 0, 0
		s.stop()
		for l.Post(func() { called++ }) == nil { // until it has ended
			taken++
			runtime.Gosched()
		}
		require.NoError(t, s.end())
		require.Equal(t, taken, called)
		for _, n := range next {
			require.Equal(t, each, n)
		}
		require.ErrorIs(t, l.Post(func() {}), net.ErrClosed)
		require.Error(t, l.Post(nil))
	})
}

// contract: L10
func TestLoop_After(t *testing.T) {
	eachQueue(t, "a Timer calls once, never early, and not when it was stopped", func(t *testing.T, open newPoll) {
		fired := make(chan int, 10)
		began := time.Now()
		var late *loop.Timer
		s := run(t, 1, loop.Config{NewPoll: open}, func(_ *server, l *loop.Loop) error {
			l.After(30*time.Millisecond, func() {
				require.GreaterOrEqual(t, time.Since(began), 30*time.Millisecond)
				fired <- 2
			})
			var t1 *loop.Timer
			t1 = l.After(0, func() {
				require.False(t, t1.Stop())
				fired <- 1
			})
			late = l.After(20*time.Millisecond, func() { fired <- 99 })
			require.True(t, late.Stop())
			require.False(t, late.Stop())
			return nil
		})
		require.Equal(t, 1, <-fired)
		require.Equal(t, 2, <-fired)
		require.NoError(t, s.end())
		require.Empty(t, fired)
		require.False(t, s.loops[0].After(0, func() {}).Stop(), "of a loop that has ended")
	})
}

// contract: L11
func TestLoop_Handle(t *testing.T) {
	eachQueue(t, "a program watches what it wants in the same loop", func(t *testing.T, open newPoll) {
		events := make(chan epore.Event, 10)
		var waker *epore.Waker
		var token epore.Token
		s := run(t, 1, loop.Config{NewPoll: open}, func(_ *server, l *loop.Loop) (err error) {
			token = l.Handle(func(ev epore.Event) { events <- ev })
			other := l.Handle(func(epore.Event) { t.Error("this one was unhandled") })
			silent, err := epore.NewWaker(l.Poll().Registry(), other)
			if err != nil {
				return err
			}
			l.Unhandle(other)
			waker, err = epore.NewWaker(l.Poll().Registry(), token)
			return errors.Join(err, silent.Wake())
		})
		require.NoError(t, waker.Wake())
		ev := <-events
		require.Equal(t, token, ev.Token)
		require.True(t, ev.Readable())
		require.NoError(t, s.end())
	})
}

// contract: L11
func TestLoop_Serve(t *testing.T) {
	eachQueue(t, "a listener of the program's own", func(t *testing.T, open newPoll) {
		sock, err := socket.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		addr := sock.Addr().String()
		s := run(t, 1, loop.Config{NewPoll: open, Grace: 20 * time.Millisecond}, func(_ *server, l *loop.Loop) error {
			require.Error(t, l.Serve(nil, nil, new(echo)))
			return l.Serve(sock, nil, new(echo))
		})
		ask(t, dial(t, addr), "hello")
		require.NoError(t, s.end())
		require.ErrorIs(t, sock.Close(), net.ErrClosed)
	})
}

// With too many connections the others wait, and all are served.
// contract: L8
func TestLoop_MaxConns(t *testing.T) {
	for _, loops := range []int{1, 3} {
		for network, addr := range streams(t) {
			guard(t, "beyond MaxConns clients wait, and none is lost")
			h := new(echo)
			var open, most atomic.Int32
			counted := &handler{
				open:  func(*loop.Conn) { most.Store(max(most.Load(), open.Add(1))) },
				data:  h.Data,
				close: func(*loop.Conn, error) { open.Add(-1) },
			}
			s := run(t, loops, loop.Config{MaxConns: 5}, func(s *server, l *loop.Loop) error {
				a, err := l.Listen(network, addr, nil, counted)
				if err == nil {
					s.addr = a.String()
				}
				return err
			})
			var all sync.WaitGroup
			for range 60 {
				all.Go(func() {
					c, err := net.Dial(network, s.addr)
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					ask(t, c, "hello")
				})
			}
			all.Wait()
			require.LessOrEqual(t, int(most.Load()), 5*loops)
			require.NoError(t, s.end())
		}
	}
}

// contract: L12
func TestLoop_Panics(t *testing.T) {
	eachQueue(t, "a panic ends its connection, and the loop goes on", func(t *testing.T, open newPoll) {
		type panicked struct {
			c     *loop.Conn
			value any
		}
		panics, closed := make(chan panicked, 10), make(told, 10)
		h := &handler{
			open: func(c *loop.Conn) {
				if c.RemoteAddr() == nil {
					panic("no peer")
				}
			},
			data: func(c *loop.Conn, b []byte) int {
				switch b[0] {
				case 'p':
					panic("in Data")
				case 'x': // dead already
					c.Abort()
					panic("after Abort")
				case 'u':
					return len(b) + 1
				}
				_, _ = c.Write(b)
				return len(b)
			},
			close: closed.close,
		}
		cfg := loop.Config{NewPoll: open, OnPanic: func(c *loop.Conn, v any) { panics <- panicked{c, v} }}
		s := serve(t, 1, cfg, nil, h)
		healthy := dial(t, s.addr)
		ask(t, healthy, "before")
		for _, text := range []string{"p", "u", "x"} {
			c := dial(t, s.addr)
			_, err := c.Write([]byte(text))
			require.NoError(t, err)
			p := <-panics
			require.NotNil(t, p.c)
			require.ErrorContains(t, closed.get(t), "panicked")
			_, err = c.Read(make([]byte, 1))
			require.Error(t, err)
		}
		require.NoError(t, s.loops[0].Post(func() { panic(io.ErrNoProgress) }))
		p := <-panics
		require.Nil(t, p.c)
		require.Equal(t, io.ErrNoProgress, p.value)
		s.on(func() { s.loops[0].After(0, func() { panic("in After") }) })
		require.Equal(t, "in After", (<-panics).value)
		ask(t, healthy, "after")
	})
}

// contract: L12
func TestLoop_Stalls(t *testing.T) {
	guard(t, "a handler that takes long is seen")
	stalls := make(chan time.Duration, 10)
	var which *loop.Conn
	h := &handler{data: func(c *loop.Conn, b []byte) int {
		which = c
		if b[0] == 's' {
			time.Sleep(30 * time.Millisecond)
		}
		_, _ = c.Write(b)
		return len(b)
	}}
	cfg := loop.Config{Stall: 30 * time.Millisecond, OnStall: func(c *loop.Conn, d time.Duration) {
		if c == which {
			stalls <- d
		}
	}}
	s := serve(t, 1, cfg, nil, h)
	ask(t, dial(t, s.addr), "s")
	require.GreaterOrEqual(t, <-stalls, 30*time.Millisecond)
}

// contract: L9
func TestRun_Misuse(t *testing.T) {
	guard(t, "what makes no sense is an error")
	ctx := context.Background()
	require.Error(t, loop.Run(ctx, 1, loop.Config{}, nil))
	nothing := func(*loop.Loop) error { return nil }
	require.ErrorIs(t, loop.Run(ctx, 2, loop.Config{NewPoll: func() (*epore.Poll, error) { return nil, io.ErrNoProgress }}, nothing), io.ErrNoProgress)
	require.ErrorIs(t, loop.Run(ctx, 1, loop.Config{NewPoll: func() (*epore.Poll, error) { return nil, nil }}, nothing), fs.ErrInvalid)
	calls := 0
	require.ErrorIs(t, loop.Run(ctx, 3, loop.Config{}, func(*loop.Loop) error {
		if calls++; calls == 2 {
			return io.ErrShortWrite
		}
		return nil
	}), io.ErrShortWrite)
	require.Equal(t, 2, calls, "the third did not start")
	require.Error(t, loop.Run(ctx, 2, loop.Config{}, func(*loop.Loop) error { runtime.Goexit(); return nil }))
	require.ErrorContains(t, loop.Run(ctx, 2, loop.Config{}, func(l *loop.Loop) error {
		_, err := l.Listen("tcp", "localhost:0", nil, new(echo))
		return err
	}), "resolve")
	done, cancel := context.WithCancel(ctx)
	cancel()
	require.NoError(t, loop.Run(done, 0, loop.Config{}, func(l *loop.Loop) error {
		_, err := l.Listen("tcp", "127.0.0.1:0", nil, new(echo))
		return err
	}), "it ends at once")
	require.NoError(t, loop.Run(done, 1, loop.Config{}, func(l *loop.Loop) error {
		_, err := l.Listen("tcp", "127.0.0.1:0", nil, nil)
		require.Error(t, err)
		return nil
	}))
}
