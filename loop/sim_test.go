package loop_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
	}
}

// onHost runs loops on a host until the World or stop ends them.
func onHost(t *testing.T, h *sim.Host, loops int, cfg loop.Config, running *sync.WaitGroup, start func(*loop.Loop) error) (stop context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	running.Add(1)
	h.Go(func(*sim.Task) {
		defer running.Done()
		if err := loop.Run(ctx, loops, cfg, start); !errors.Is(err, sim.ErrEnded) && !errors.Is(err, sim.ErrCrashed) {
			assert.NoError(t, err)
		}
	})
	return cancel
}

// simClient sends what it has to send in pieces, and compares what comes back.
type simClient struct {
	t     *testing.T
	name  string
	rest  []byte // not written yet
	want  []byte // not received yet
	left  *int   // clients that have not ended
	delay time.Duration
}

func (c *simClient) Open(conn *loop.Conn) { c.send(conn) }

// send writes a part now and then.
func (c *simClient) send(conn *loop.Conn) {
	n := min(len(c.rest), 1+len(c.rest)/3)
	_, _ = conn.Write(c.rest[:n])
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		conn.CloseWrite()
		return
	}
	conn.Loop().After(c.delay, func() {
		if conn.Value() == nil {
			c.send(conn)
		}
	})
}

func (c *simClient) Data(conn *loop.Conn, in []byte) int {
	require.LessOrEqual(c.t, len(in), len(c.want))
	require.True(c.t, bytes.Equal(in, c.want[:len(in)]), "bytes that come back are the bytes that were sent")
	c.want = c.want[len(in):]
	return len(in)
}

func (c *simClient) Close(conn *loop.Conn, err error) {
	conn.SetValue("closed")
	assert.NoError(c.t, err, c.name)
	assert.Empty(c.t, c.want, c.name)
	*c.left--
}

func (c *simClient) Failed(_ *loop.Conn, err error) {
	assert.NoError(c.t, err, c.name)
	*c.left--
}

// simEcho echoes until the end of the stream.
type simEcho struct{ open int }

func (e *simEcho) Open(*loop.Conn)         { e.open++ }
func (e *simEcho) Close(*loop.Conn, error) { e.open-- }
func (e *simEcho) Data(c *loop.Conn, in []byte) int {
	_, _ = c.Write(in)
	return len(in)
}

// echoWorld has clients send what a server echoes. Whatever the world does that it may do,
// short of resets: each client gets back its bytes, in order, and the end; and when it is over
// nothing is left.
func echoWorld(t *testing.T, w *sim.World) {
	server, clients := w.Host("server"), w.Host("clients")
	w.Faults(sim.Swarm())
	var running sync.WaitGroup
	echo := &simEcho{}
	cfg := simConfig(server)
	cfg.Grace = time.Hour
	stopServer := onHost(t, server, 1, cfg, &running, func(l *loop.Loop) error {
		_, err := l.Listen("tcp", ":7", nil, echo)
		return err
	})
	w.Settle()
	r := rand.New(rand.NewPCG(w.Seed(), 1))
	left := 1 + r.IntN(8)
	cfg = simConfig(clients)
	cfg.Grace = time.Hour
	stopClients := onHost(t, clients, 1, cfg, &running, func(l *loop.Loop) error {
		for i := range left {
			data := make([]byte, 1+r.IntN(1<<r.IntN(15)))
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			c := &simClient{t: t, name: fmt.Sprint("client ", i), rest: data, want: data, left: &left, delay: time.Duration(r.Int64N(int64(time.Second)))}
			if _, err := l.Dial("tcp", "server:7", 0, nil, c); err != nil {
				return err
			}
		}
		return nil
	})
	w.Sleep(time.Minute)
	if r.IntN(2) == 0 {
		w.Partition(server, clients)
		w.Sleep(time.Duration(r.Int64N(int64(10 * time.Minute))))
		w.Heal()
	}
	w.Faults()
	w.Sleep(time.Hour)
	assert.Zero(t, left, "every client has ended")
	assert.Zero(t, echo.open, "the server has closed every connection")
	stopServer()
	stopClients()
	w.Sleep(time.Minute)
	running.Wait()
}

// contract: V3
func TestSim_Echo(t *testing.T) { sim.Explore(t, fixture.Seeds(50), echoWorld) }

// The same seed gives the same run.
//
// contract: V2
func TestSim_SeedRepeats(t *testing.T) {
	for seed := range fixture.Seeds(10) {
		sim.Check(t, uint64(seed), echoWorld)
	}
}

// simEnds is what a world may do to connections, and how they ended.
type simEnds struct {
	t              *testing.T
	cut            bool                // the server was killed: the end of a stream may come early
	secure         bool                // over TLS, where an early end is an error
	open           map[*loop.Conn]bool // those that have not ended, of both sides
	left           int                 // clients that have not ended
	whole, failed  int                 // clients
	accepted, shut int                 // connections of the server
}

// opened and closed count that each Open has one Close.
func (e *simEnds) opened(c *loop.Conn) {
	require.False(e.t, e.open[c], "one Open for each connection")
	e.open[c] = true
}

func (e *simEnds) closed(c *loop.Conn) {
	require.True(e.t, e.open[c], "one Close for each Open, after it")
	delete(e.open, c)
}

// hardyClient is a simClient whose connection may end early.
type hardyClient struct {
	*simClient
	ends *simEnds
}

func (c hardyClient) Open(conn *loop.Conn) {
	c.ends.opened(conn)
	conn.SetDeadline(time.Now().Add(30 * time.Minute)) // a host that has crashed says nothing
	c.send(conn)
}

func (c hardyClient) Close(conn *loop.Conn, err error) {
	conn.SetValue("closed")
	c.ends.closed(conn)
	c.ends.left--
	switch {
	case err != nil:
		c.ends.failed++
	case len(c.want) == 0:
		c.ends.whole++
	default:
		require.True(c.ends.t, c.ends.cut && !c.ends.secure, "a stream that was cut off ends with an error")
		c.ends.failed++
	}
}

func (c hardyClient) Failed(conn *loop.Conn, err error) {
	require.Error(c.ends.t, err)
	require.False(c.ends.t, c.ends.open[conn], "either Open or Failed")
	c.ends.left--
	c.ends.failed++
}

// hardyEcho is a simEcho whose connections may end early.
type hardyEcho struct{ ends *simEnds }

func (e hardyEcho) Open(c *loop.Conn) { e.ends.opened(c); e.ends.accepted++ }
func (e hardyEcho) Data(c *loop.Conn, in []byte) int {
	_, _ = c.Write(in)
	return len(in)
}
func (e hardyEcho) Close(c *loop.Conn, _ error) { e.ends.closed(c); e.ends.shut++ }

// hostileWorld resets connections, and may kill the server or let its host crash. Each client
// gets back its bytes, in order, or its connection ends with an error; nothing is left; and
// afterwards the same server works as if nothing had been.
func hostileWorld(t *testing.T, w *sim.World, serverConf, clientConf *tls.Config) {
	server, clients := w.Host("server"), w.Host("clients")
	var running sync.WaitGroup
	r := rand.New(rand.NewPCG(w.Seed(), 2))
	resets, hurt := []float64{0, 0, 0.002, 0.05}[r.IntN(4)], r.IntN(6)
	w.Faults(sim.Swarm(), sim.Resets(resets))
	ends := &simEnds{t: t, secure: serverConf != nil, open: make(map[*loop.Conn]bool)}
	config := func(h *sim.Host) loop.Config {
		cfg := simConfig(h)
		cfg.Grace, cfg.Handshake = time.Hour, time.Hour
		return cfg
	}
	start := func() context.CancelFunc {
		return onHost(t, server, 1, config(server), &running, func(l *loop.Loop) error {
			_, err := l.Listen("tcp", ":7", serverConf, hardyEcho{ends})
			return err
		})
	}
	stopServer := start()
	w.Settle()
	var on *loop.Loop
	dial := func(l *loop.Loop, n int) error {
		ends.left += n
		for range n {
			data := make([]byte, 1+r.IntN(1<<r.IntN(15)))
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			c := hardyClient{&simClient{t: t, rest: data, want: data, delay: time.Duration(r.Int64N(int64(time.Second)))}, ends}
			if _, err := l.Dial("tcp", "server:7", time.Hour/2, clientConf, c); err != nil {
				return err
			}
		}
		return nil
	}
	n := 1 + r.IntN(6)
	stopClients := onHost(t, clients, 1, config(clients), &running, func(l *loop.Loop) error {
		on = l
		return dial(l, n)
	})
	w.Sleep(time.Duration(r.Int64N(int64(10 * time.Second))))
	switch hurt {
	case 0:
		ends.cut = true
		server.Kill()
		w.Sleep(time.Duration(r.Int64N(int64(time.Minute))))
		assert.Equal(t, ends.accepted, ends.shut, "the loop closes all connections when its queue fails")
		stopServer = start()
	case 1:
		server.Crash()
		w.Sleep(time.Duration(r.Int64N(int64(time.Minute))))
		server.Restart()
		stopServer = start()
	case 2:
		w.Partition(server, clients)
		w.Sleep(time.Duration(r.Int64N(int64(10 * time.Minute))))
		w.Heal()
	}
	w.Faults()
	w.Sleep(3 * time.Hour) // more than the limits of Dial, of a connection and of closing
	require.Zero(t, ends.left, "every client has ended")
	require.Equal(t, n, ends.whole+ends.failed)
	if resets == 0 && hurt > 2 {
		require.Equal(t, n, ends.whole, "nothing fails for no reason")
	}

	ends.cut, ends.whole, ends.failed = false, 0, 0
	require.NoError(t, on.Post(func() { require.NoError(t, dial(on, 3)) }))
	w.Sleep(10 * time.Minute)
	require.Equal(t, 3, ends.whole, "connections work again")
	require.Zero(t, clients.OpenSockets(), "sockets of clients")
	require.Equal(t, ends.accepted, ends.shut, "the server has closed every connection")
	require.Empty(t, ends.open)
	require.Equal(t, 1, server.OpenSockets(), "the listener")
	stopServer()
	stopClients()
	w.Sleep(time.Minute)
	running.Wait()
	require.Zero(t, server.OpenSockets())
}

func TestSim_ResetsAndCrashes(t *testing.T) {
	sim.Explore(t, fixture.Seeds(30), func(t *testing.T, w *sim.World) { hostileWorld(t, w, nil, nil) })
}

func TestSim_ResetsAndCrashesRepeat(t *testing.T) {
	for seed := range fixture.Seeds(5) {
		sim.Check(t, uint64(seed), func(t *testing.T, w *sim.World) { hostileWorld(t, w, nil, nil) })
	}
}

// In a bubble, the clock of a loop is decades before its origin.
//
// contract: L7
func TestSim_LongestDurations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const longest = time.Duration(math.MaxInt64)
		w := sim.New(t)
		server, client := w.Host("server"), w.Host("client")
		var running sync.WaitGroup
		start := func(h *sim.Host, f func(*loop.Loop) error) context.CancelFunc {
			cfg := simConfig(h)
			cfg.Idle, cfg.Handshake, cfg.Grace = longest, longest, longest
			return onHost(t, h, 1, cfg, &running, f)
		}
		ended := make(map[string]time.Time)
		closer := func(name string, deadline time.Time) *plain {
			return &plain{open: func(c *loop.Conn) { c.SetDeadline(deadline) }, close: func(err error) {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					ended[name] = time.Now()
				}
			}}
		}
		stopServer := start(server, func(l *loop.Loop) error {
			_, err := l.Listen("tcp", ":7", nil, new(simEcho))
			return err
		})
		w.Settle()
		began := time.Now()
		stopClient := start(client, func(l *loop.Loop) error {
			for name, at := range map[string]time.Time{
				"far": began.Add(longest), "very far": time.Unix(1<<40, 0), "an hour": began.Add(time.Hour),
				"past": began.Add(-time.Hour), "long past": time.Unix(-1<<40, 0),
			} {
				if _, err := l.Dial("tcp", "server:7", longest, nil, closer(name, at)); err != nil {
					return err
				}
			}
			return nil
		})
		w.Sleep(2 * time.Hour)
		assert.Equal(t, map[string]time.Time{"an hour": began.Add(time.Hour), "past": began, "long past": began}, ended)
		stopServer()
		w.Sleep(time.Second)
		stopClient()
		running.Wait()
	})
}

// plain is a handler that reads and says when it ends.
type plain struct {
	open  func(*loop.Conn)
	close func(error)
}

func (p *plain) Open(c *loop.Conn)                { p.open(c) }
func (p *plain) Data(_ *loop.Conn, in []byte) int { return len(in) }
func (p *plain) Close(_ *loop.Conn, err error)    { p.close(err) }
func (p *plain) Failed(_ *loop.Conn, err error)   { p.close(err) }
