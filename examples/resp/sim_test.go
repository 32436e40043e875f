//go:build unix || windows

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/redcon"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/loop"
	"github.com/epore/epore/sim"
)

// simConfig is a Config for a simulated host.
func simConfig(h *sim.Host) loop.Config {
	return loop.Config{
		NewPoll: func() (*epore.Poll, error) { return epore.NewWith(h.Backend()) },
		Network: h,
		Grace:   time.Hour,
	}
}

// onHost runs a program of loops on a host.
func onHost(t *testing.T, h *sim.Host, running *sync.WaitGroup, program func() error) {
	running.Add(1)
	h.Go(func(*sim.Task) {
		defer running.Done()
		if err := program(); !errors.Is(err, sim.ErrEnded) && !errors.Is(err, sim.ErrCrashed) {
			assert.NoError(t, err)
		}
	})
}

// question is a request with what its answer must be.
type question struct {
	request []byte
	check   func(asked, answered time.Duration, answer redcon.RESP)
	asked   time.Duration // when its first byte was sent
	begin   int           // in the stream of the client
}

// asker sends requests in pieces that the seed draws, and checks the answers in their order.
type asker struct {
	t         *testing.T
	r         *rand.Rand
	began     time.Time
	out       []byte
	written   int
	questions []question // without an answer
	done      int
	ended     bool
	err       error
}

func (a *asker) ask(request []byte, check func(asked, answered time.Duration, answer redcon.RESP)) {
	a.questions = append(a.questions, question{request: request, check: check, begin: len(a.out)})
	a.out = append(a.out, request...)
}

func (a *asker) now() time.Duration { return time.Since(a.began) }

func (a *asker) Open(c *loop.Conn) { a.write(c) }

// write sends a piece of the requests, which may end anywhere, and the next one later.
func (a *asker) write(c *loop.Conn) {
	if a.ended {
		return
	}
	n := min(len(a.out)-a.written, 1+a.r.IntN(1<<a.r.IntN(10)))
	for i := range a.questions {
		if q := &a.questions[i]; q.asked == 0 && q.begin < a.written+n {
			q.asked = a.now()
		}
	}
	if _, err := c.Write(a.out[a.written : a.written+n]); err != nil {
		return // Close has the error
	}
	if a.written += n; a.written == len(a.out) {
		return
	}
	c.Loop().After(time.Duration(a.r.Int64N(1<<(10+a.r.IntN(20)))), func() { a.write(c) })
}

func (a *asker) Data(c *loop.Conn, b []byte) (used int) {
	for {
		n, answer := redcon.ReadNextRESP(b[used:])
		if n == 0 {
			return used
		}
		used += n
		require.NotEmpty(a.t, a.questions, "one answer for each request")
		q := a.questions[0]
		require.NotZero(a.t, q.asked, "no answer comes before its request")
		a.questions = a.questions[1:]
		a.done++
		q.check(q.asked, a.now(), answer)
		if len(a.questions) == 0 {
			c.Close()
		}
	}
}

func (a *asker) Close(_ *loop.Conn, err error)  { a.ended, a.err = true, err }
func (a *asker) Failed(_ *loop.Conn, err error) { a.ended, a.err = true, err }

// value is what a client knows about a key: from when to when it was set, and for how long.
type value struct {
	text           string
	from, to, life time.Duration // life 0: it does not expire
}

// newAsker draws requests about keys that only this client uses.
func newAsker(t *testing.T, r *rand.Rand, name string, requests int) *asker {
	a := &asker{t: t, r: r, began: time.Now().Add(-1)}
	model := make(map[string]*value)
	count := 0
	is := func(want string) func(time.Duration, time.Duration, redcon.RESP) {
		return func(_, _ time.Duration, answer redcon.RESP) { require.Equal(t, want, string(answer.Raw)) }
	}
	for i := range requests {
		key := fmt.Sprint(name, ":", r.IntN(3))
		switch r.IntN(6) {
		case 0:
			text := fmt.Sprint(name, i)
			a.ask(request("ECHO", text), is(string(redcon.AppendBulkString(nil, text))))
		case 1:
			text := string(bytes.Repeat([]byte{'a' + byte(i%26)}, r.IntN(1<<r.IntN(12))))
			a.ask(request("SET", key, text), func(asked, answered time.Duration, answer redcon.RESP) {
				require.Equal(t, "+OK\r\n", string(answer.Raw))
				model[key] = &value{text: text, from: asked, to: answered}
			})
		case 2:
			d := time.Duration(1+r.IntN(20_000)) * time.Millisecond
			unit := "PX"
			if r.IntN(2) == 0 {
				d, unit = d.Truncate(time.Second)+time.Second, "EX"
			}
			n := d.Milliseconds()
			if unit == "EX" {
				n /= 1000
			}
			a.ask(request("SET", key, "short", unit, strconv.FormatInt(n, 10)), func(asked, answered time.Duration, answer redcon.RESP) {
				require.Equal(t, "+OK\r\n", string(answer.Raw))
				model[key] = &value{"short", asked, answered, d}
			})
		case 3:
			a.ask(request("INCR", name), func(_, _ time.Duration, answer redcon.RESP) {
				count++
				require.Equal(t, fmt.Sprintf(":%d\r\n", count), string(answer.Raw), "each request is done once")
			})
		case 4:
			a.ask(request("DEL", key), func(_, _ time.Duration, answer redcon.RESP) {
				if model[key] == nil || model[key].life == 0 {
					require.Equal(t, model[key] != nil, answer.Int() == 1)
				}
				delete(model, key)
			})
		case 5:
			a.ask(request("GET", key), func(asked, answered time.Duration, answer redcon.RESP) {
				v, found := model[key], string(answer.Raw) != "$-1\r\n"
				switch {
				case v == nil || v.life > 0 && asked >= v.to+v.life:
					require.False(t, found, "a value that was deleted or has expired")
				case v.life == 0 || answered < v.from+v.life-time.Millisecond: // the clock counts in milliseconds
					require.True(t, found, "a value that has not expired")
				}
				if found {
					require.Equal(t, v.text, answer.String())
				}
			})
		}
	}
	return a
}

// subscriber receives what others publish, numbered by publisher.
type subscriber struct {
	t         *testing.T
	slow      bool
	confirmed time.Duration
	began     time.Time
	next      map[string]int // by publisher: the number after the last one
	first     map[string]int
	received  int
	ended     bool
	err       error
}

func (s *subscriber) Open(c *loop.Conn) {
	_, err := c.Write(request("SUBSCRIBE", "news"))
	require.NoError(s.t, err)
}

func (s *subscriber) Data(c *loop.Conn, b []byte) (used int) {
	for {
		n, answer := redcon.ReadNextRESP(b[used:])
		if n == 0 {
			return used
		}
		used += n
		var parts []string
		answer.ForEach(func(part redcon.RESP) bool { parts = append(parts, part.String()); return true })
		require.Len(s.t, parts, 3)
		require.Equal(s.t, "news", parts[1])
		if parts[0] == "subscribe" {
			s.confirmed = time.Since(s.began)
			if s.slow {
				c.Pause()
				c.Loop().After(30*time.Minute, func() {
					if !s.ended {
						c.Resume()
					}
				})
			}
			continue
		}
		require.Equal(s.t, "message", parts[0])
		from, number, _ := bytes.Cut([]byte(parts[2]), []byte(" "))
		number, _, _ = bytes.Cut(number, []byte(" "))
		k, err := strconv.Atoi(string(number))
		require.NoError(s.t, err)
		if _, known := s.first[string(from)]; known {
			require.Equal(s.t, s.next[string(from)], k, "each message once, in order")
		} else {
			s.first[string(from)] = k
		}
		s.next[string(from)] = k + 1
		s.received++
	}
}

func (s *subscriber) Close(_ *loop.Conn, err error)  { s.ended, s.err = true, err }
func (s *subscriber) Failed(_ *loop.Conn, err error) { s.ended, s.err = true, err }

// respWorld has clients ask, publish and subscribe. In some worlds connections are reset.
func respWorld(t *testing.T, w *sim.World) {
	server, host := w.Host("server"), w.Host("clients")
	r := rand.New(rand.NewPCG(w.Seed(), 1))
	resets := r.IntN(3) == 0
	impatient := r.IntN(2) == 0 // the server disconnects subscribers that are slow, or whose network is
	if w.Faults(sim.Swarm()); resets {
		w.Faults(sim.Swarm(), sim.Resets([]float64{0.001, 0.02}[r.IntN(2)]))
	}
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all *store
	onHost(t, server, &running, func() error {
		cfg := simConfig(server)
		if cfg.MaxOut = 1 << 30; impatient {
			cfg.MaxOut = 32 << 10
		}
		return serve(ctx, cfg, ":6379", func(s *store, _ net.Addr) { all = s })
	})
	w.Settle()
	began := time.Now().Add(-1)
	var askers, publishers []*asker
	var subscribers []*subscriber
	sent := make(map[string][]time.Duration) // when each message was sent, by publisher
	delivered := 0
	onHost(t, host, &running, func() error {
		return loop.Run(ctx, 1, simConfig(host), func(l *loop.Loop) error {
			dial := func(h loop.DialHandler) {
				_, err := l.Dial("tcp", "server:6379", 0, nil, h)
				assert.NoError(t, err)
			}
			for i := range 1 + r.IntN(6) {
				a := newAsker(t, r, fmt.Sprint("client", i), 1+r.IntN(1<<r.IntN(9)))
				askers = append(askers, a)
				dial(a)
			}
			for i := range r.IntN(4) {
				s := &subscriber{t: t, slow: i == 0, began: began, next: make(map[string]int), first: make(map[string]int)}
				subscribers = append(subscribers, s)
				dial(s)
			}
			for i := range r.IntN(3) {
				a := &asker{t: t, r: r, began: began}
				name := fmt.Sprint("publisher", i)
				padding := string(bytes.Repeat([]byte{'.'}, r.IntN(1<<r.IntN(10))))
				for n := range 1 + r.IntN(100) {
					a.ask(request("PUBLISH", "news", fmt.Sprint(name, " ", n, " ", padding)), func(asked, _ time.Duration, answer redcon.RESP) {
						require.EqualValues(t, redcon.Integer, answer.Type)
						require.LessOrEqual(t, answer.Int(), int64(len(subscribers)))
						delivered += int(answer.Int())
						sent[name] = append(sent[name], asked)
					})
				}
				publishers = append(publishers, a)
				l.After(time.Duration(r.Int64N(int64(20*time.Second))), func() { dial(a) })
			}
			return nil
		})
	})
	w.Sleep(time.Minute)
	if r.IntN(3) == 0 {
		w.Partition(server, host)
		w.Sleep(time.Duration(r.Int64N(int64(10 * time.Minute))))
		w.Heal()
	}
	w.Faults()
	w.Sleep(time.Hour)

	commands := 0
	for _, a := range append(askers, publishers...) {
		require.True(t, a.ended, "within an hour, everybody has an answer or an error")
		if !resets {
			require.NoError(t, a.err)
		}
		if a.err == nil {
			require.Empty(t, a.questions, "each request has an answer, or the connection has ended")
		}
		commands += a.done
	}
	received, open := 0, 0
	for _, s := range subscribers {
		received += s.received
		if !s.ended {
			open++
		} else if !resets {
			require.True(t, impatient, "nobody is disconnected for no reason")
			require.Error(t, s.err)
		}
		for name, times := range sent {
			if s.ended || s.confirmed == 0 {
				continue
			}
			if !resets { // one whose publisher was reset may have more
				require.True(t, len(times) == s.next[name] || s.next[name] == 0, "all to the last one: %d of %d", s.next[name], len(times))
			}
			first, any := s.first[name]
			for n, at := range times {
				if at > s.confirmed {
					require.True(t, any && first <= n, "message %d of %s came after the subscription", n, name)
				}
			}
		}
	}
	if !resets && open == len(subscribers) {
		require.Equal(t, delivered, received, "each message once, at each subscriber")
	}
	require.Equal(t, open, all.clients, "the server has the connections that are open")
	require.Equal(t, open, host.OpenSockets())
	require.Equal(t, 1+open, server.OpenSockets())
	require.LessOrEqual(t, commands, all.commands)
	if open == 0 {
		require.Empty(t, all.channels)
	}
	if !resets {
		require.Equal(t, commands+len(subscribers), all.commands)
	}
	for key, e := range all.keys {
		require.Nil(t, e.expiry, "%s has expired", key)
	}
	require.Zero(t, all.expiring)
	stop()
	w.Sleep(2 * time.Hour)
	running.Wait()
	require.Zero(t, host.OpenSockets())
	require.Zero(t, server.OpenSockets())
	require.Zero(t, all.clients)
	require.Empty(t, all.channels)
}

func TestSim_Resp(t *testing.T) { sim.Explore(t, fixture.Seeds(30), respWorld) }
