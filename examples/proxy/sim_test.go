package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
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

// exchange is what a client and a backend say to each other. A request begins with a header:
// the seed of the bytes, the sizes of request and answer, and whether the backend answers and
// ends its half before the request has ended.
type exchange struct {
	request, answer []byte
	early           bool
}

const headerSize = 8 + 4 + 4 + 1

func newExchange(seed uint64, request, answer int, early bool) *exchange {
	e := &exchange{make([]byte, headerSize+request), make([]byte, answer), early}
	binary.BigEndian.PutUint64(e.request, seed)
	binary.BigEndian.PutUint32(e.request[8:], uint32(request))
	binary.BigEndian.PutUint32(e.request[12:], uint32(answer))
	if early {
		e.request[16] = 1
	}
	random := rand.New(rand.NewPCG(seed, 3))
	for _, b := range [][]byte{e.request[headerSize:], e.answer} {
		for i := range b {
			b[i] = byte(random.Uint32())
		}
	}
	return e
}

// side is the handler of one side of an exchange, which sends in pieces, and compares what it
// receives. Each side ends its half by itself.
type side struct {
	t                  *testing.T
	client, early      bool
	send, want         []byte
	delay              time.Duration
	ended, eof, closed bool
	err                error
}

func (s *side) Open(c *loop.Conn) {
	if s.client {
		c.SetDeadline(time.Now().Add(30 * time.Minute)) // a host that has crashed says nothing
		s.write(c)
	}
}

// write sends a piece, and the next one later. It lets little wait, because a loop does not
// read while much of what it wrote is unsent: see the package comment of loop.
func (s *side) write(c *loop.Conn) {
	if s.closed {
		return
	}
	if n := min(len(s.send), 1+len(s.send)/3, 4<<10); c.Buffered() <= 4<<10 {
		if _, err := c.Write(s.send[:n]); err != nil {
			return // Close has the error
		}
		if s.send = s.send[n:]; len(s.send) == 0 {
			s.ended = true
			c.CloseWrite()
			return
		}
	}
	c.Loop().After(s.delay, func() { s.write(c) })
}

func (s *side) Data(c *loop.Conn, b []byte) int {
	require.LessOrEqual(s.t, len(b), len(s.want))
	require.True(s.t, bytes.Equal(b, s.want[:len(b)]), "bytes in are bytes out, in order")
	s.want = s.want[len(b):]
	return len(b)
}

func (s *side) EOF(*loop.Conn) { s.eof = true }

func (s *side) Close(_ *loop.Conn, err error) { s.closed, s.err = true, err }

func (s *side) Failed(_ *loop.Conn, err error) { s.closed, s.err = true, err }

// whole reports whether all bytes of both directions have arrived, and both ends.
func (s *side) whole() bool {
	return s.closed && s.err == nil && s.ended && s.eof && len(s.send)+len(s.want) == 0
}

// backendSide is a side that learns from the header what it is about.
type backendSide struct {
	side
	exchange *exchange
	all      *backends
}

// backends counts what all backends have done.
type backends struct {
	t           *testing.T
	open, whole int
	late        int            // requests that were whole before an answer began
	served      map[string]int // by host
}

// accepting is the handler of a backend's listener.
type accepting struct {
	*backends
	host string
}

func (a accepting) Open(c *loop.Conn) {
	a.open++
	a.served[a.host]++
	c.SetValue(&backendSide{side: side{t: a.t}, all: a.backends})
}

func (a accepting) Data(c *loop.Conn, b []byte) int {
	s := c.Value().(*backendSide)
	if s.exchange == nil {
		if len(b) < headerSize {
			return 0
		}
		e := newExchange(binary.BigEndian.Uint64(b), int(binary.BigEndian.Uint32(b[8:])), int(binary.BigEndian.Uint32(b[12:])), b[16] == 1)
		s.exchange, s.send, s.want, s.delay = e, e.answer, e.request, time.Millisecond
		if e.early {
			s.write(c)
		}
	}
	return s.Data(c, b)
}

func (a accepting) EOF(c *loop.Conn) {
	s := c.Value().(*backendSide)
	s.eof = true
	if s.exchange == nil || len(s.want) > 0 { // only a broken connection ends here
		c.Abort()
		return
	}
	if !s.exchange.early {
		a.late++
		s.write(c)
	}
}

func (a accepting) Close(c *loop.Conn, err error) {
	s := c.Value().(*backendSide)
	s.closed, s.err = true, err
	if a.open--; s.whole() {
		a.whole++
	}
}

// proxyWorld has clients talk to backends through the proxy. The world may cut links, kill a
// backend, or let its host crash.
func proxyWorld(t *testing.T, w *sim.World) {
	clients, middle := w.Host("clients"), w.Host("proxy")
	hosts := []*sim.Host{w.Host("b1"), w.Host("b2")}
	r := rand.New(rand.NewPCG(w.Seed(), 1))
	w.Faults(sim.Swarm())
	var running sync.WaitGroup
	all := &backends{t: t, served: make(map[string]int)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	begin := func(h *sim.Host) {
		onHost(t, h, &running, func() error {
			return loop.Run(ctx, 1, simConfig(h), func(l *loop.Loop) error {
				_, err := l.Listen("tcp", ":80", nil, accepting{all, h.Name()})
				return err
			})
		})
	}
	var at []string
	for _, h := range hosts {
		begin(h)
		at = append(at, net.JoinHostPort(h.Addr().String(), "80"))
	}
	w.Settle()
	var total statistics
	stopped, stopProxy := context.WithCancel(t.Context())
	defer stopProxy()
	loops := 1 + r.IntN(2)
	cfg := simConfig(middle)
	cfg.Grace = 0
	s := settings{backends: at, connect: time.Duration(1+r.IntN(60)) * time.Second, retry: 2 * time.Second, idle: 15 * time.Minute, grace: time.Minute, max: 100, log: io.Discard}
	onHost(t, middle, &running, func() error {
		return serve(stopped, cfg, loops, ":80", s, &total, func(*loop.Loop, net.Addr) error { return nil })
	})
	w.Settle()

	var on *loop.Loop
	var sides []*side
	bytesUp, bytesDown := 0, 0
	dial := func(n int) error {
		for range n {
			e := newExchange(r.Uint64(), r.IntN(1<<r.IntN(15)), 1+r.IntN(1<<r.IntN(15)), r.IntN(2) == 0)
			bytesUp, bytesDown = bytesUp+len(e.request), bytesDown+len(e.answer)
			c := &side{t: t, client: true, early: e.request[16] == 1, send: e.request, want: e.answer, delay: time.Duration(1 + r.Int64N(int64(time.Second)))}
			sides = append(sides, c)
			if _, err := on.Dial("tcp", "proxy:80", 0, nil, c); err != nil {
				return err
			}
		}
		return nil
	}
	onHost(t, clients, &running, func() error {
		return loop.Run(ctx, 1, simConfig(clients), func(l *loop.Loop) error {
			on = l
			return dial(1 + r.IntN(8))
		})
	})
	w.Sleep(time.Duration(r.Int64N(int64(20 * time.Second))))
	hurt := hosts[r.IntN(2)]
	broken, killed := true, false
	switch r.IntN(6) {
	case 0:
		w.Partition(clients, middle)
	case 1:
		w.Partition(middle, hurt)
	case 2:
		hurt.Crash()
		w.Sleep(time.Duration(r.Int64N(int64(5 * time.Minute))))
		hurt.Restart()
		begin(hurt)
	case 3:
		killed = true // its system ends the connections in order, wherever they are
		hurt.Kill()
		w.Sleep(time.Duration(r.Int64N(int64(time.Minute))))
		begin(hurt)
	default:
		broken = false
	}
	w.Sleep(time.Duration(r.Int64N(int64(10 * time.Minute))))
	w.Heal()
	w.Faults()
	w.Sleep(time.Hour)

	whole, late := 0, 0
	for _, c := range sides {
		require.True(t, c.closed, "every client has ended within an hour")
		if !killed && c.err == nil {
			require.True(t, c.whole(), "what ends in order is whole")
		}
		if c.whole() {
			if whole++; !c.early {
				late++
			}
		}
	}
	require.GreaterOrEqual(t, all.late, late, "a backend that answers late has the whole request")
	if !broken {
		require.Equal(t, whole, all.whole, "what is whole for a client is whole for its backend")
		require.Zero(t, total.cut.Load())
		require.EqualValues(t, len(sides)-whole, total.unreachable.Load(), "only clients without a backend see an error")
		if whole == len(sides) {
			require.EqualValues(t, bytesUp, total.up.Load())
			require.EqualValues(t, bytesDown, total.down.Load())
		}
	}
	nothingOpen := func() {
		require.Zero(t, total.open.Load(), &total)
		require.Zero(t, all.open, "backends have no connections")
		require.Zero(t, clients.OpenSockets())
		require.Equal(t, 1, middle.OpenSockets(), "the listener")
		for _, h := range hosts {
			require.Equal(t, 1, h.OpenSockets(), "the listener")
		}
	}
	nothingOpen()

	// Everything works again, at both backends.
	before, seen := len(sides), map[string]int{}
	clear(all.served)
	accepted := total.accepted.Load()
	require.NoError(t, on.Post(func() { assert.NoError(t, dial(4)) }))
	w.Sleep(10 * time.Minute)
	for _, c := range sides[before:] {
		require.NoError(t, c.err)
		require.True(t, c.whole(), "connections work again")
	}
	for _, h := range hosts {
		seen[h.Name()] = 2
	}
	if loops == 1 { // each loop has its turns
		require.Equal(t, seen, all.served)
	}
	require.EqualValues(t, 4, total.accepted.Load()-accepted)
	nothingOpen()
	stopProxy()
	w.Sleep(time.Second)
	require.Zero(t, middle.OpenSockets(), "the proxy has ended")
	stop()
	w.Sleep(time.Minute)
	running.Wait()
	for _, h := range append(hosts, clients) {
		require.Zero(t, h.OpenSockets())
	}
}

func TestSim_Proxy(t *testing.T) { sim.Explore(t, fixture.Seeds(30), proxyWorld) }

func TestSim_ProxyRepeats(t *testing.T) {
	for seed := range fixture.Seeds(5) {
		sim.Check(t, uint64(seed), proxyWorld)
	}
}

// hears does nothing, and lets the other side end its half.
type hears struct{}

func (hears) Open(*loop.Conn)                 {}
func (hears) Data(_ *loop.Conn, b []byte) int { return len(b) }
func (hears) EOF(*loop.Conn)                  {}
func (hears) Close(*loop.Conn, error)         {}
func (hears) Failed(_ *loop.Conn, err error)  { panic(err) }

// A client has ended its half and has gone, and the backend has crashed: nobody sends anything
// any more.
func TestSim_ProxyIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.NewSeed(t, 1)
		clients, middle, backend := w.Host("clients"), w.Host("proxy"), w.Host("backend")
		var running sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		onHost(t, backend, &running, func() error {
			return loop.Run(ctx, 1, simConfig(backend), func(l *loop.Loop) error {
				_, err := l.Listen("tcp", ":80", nil, hears{})
				return err
			})
		})
		var total statistics
		onHost(t, middle, &running, func() error {
			s := settings{backends: []string{backend.Addr().String() + ":80"}, connect: time.Second, idle: time.Minute, max: 1, log: io.Discard}
			return serve(ctx, simConfig(middle), 1, ":80", s, &total, func(*loop.Loop, net.Addr) error { return nil })
		})
		w.Settle()
		onHost(t, clients, &running, func() error {
			return loop.Run(ctx, 1, simConfig(clients), func(l *loop.Loop) error {
				c, err := l.Dial("tcp", "proxy:80", 0, nil, hears{})
				if err != nil {
					return err
				}
				for i := range 4 { // data keeps the connection open
					l.After(time.Duration(i)*40*time.Second, func() { _, _ = c.Write([]byte("hello")) })
				}
				l.After(150*time.Second, c.CloseWrite)
				l.After(160*time.Second, c.Abort)
				return nil
			})
		})
		w.Sleep(155 * time.Second)
		require.EqualValues(t, 1, total.open.Load())
		backend.Crash()
		w.Rule(func(p *sim.Packet) sim.Verdict { // the reset is lost, and nobody repeats it
			if p.Kind == sim.Reset && p.From == clients {
				return sim.Drop
			}
			return sim.Deliver
		})
		w.Sleep(40 * time.Second)
		require.Zero(t, clients.OpenSockets())
		require.EqualValues(t, 1, total.open.Load())
		w.Sleep(time.Minute)
		require.Zero(t, total.open.Load())
		require.EqualValues(t, 1, total.cut.Load())
		require.Equal(t, 1, middle.OpenSockets(), "the listener")
		stop()
		w.Sleep(2 * time.Hour)
		running.Wait()
	})
}
