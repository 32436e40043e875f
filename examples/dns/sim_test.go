package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/loop"
	"github.com/epore/epore/sim"
	"github.com/epore/epore/socket"
)

// onHost runs a program of one loop on a host.
func onHost(t *testing.T, h *sim.Host, running *sync.WaitGroup, program func(loop.Config) error) {
	cfg := loop.Config{NewPoll: func() (*epore.Poll, error) { return epore.NewWith(h.Backend()) }, Network: h}
	running.Add(1)
	h.Go(func(*sim.Task) {
		defer running.Done()
		if err := program(cfg); !errors.Is(err, sim.ErrEnded) && !errors.Is(err, sim.ErrCrashed) {
			assert.NoError(t, err)
		}
	})
}

// addressOf is what the simulated upstream knows: each name has an address.
func addressOf(name string) []byte {
	n := crc32.ChecksumIEEE([]byte(strings.ToLower(name)))
	return []byte{10, byte(n >> 16), byte(n >> 8), byte(n)}
}

// answers is an upstream that says nothing about some names.
func answers(c *socket.PacketConn) {
	for b := make([]byte, maxQuery); ; {
		n, from, err := c.ReadFrom(b)
		if err == socket.ErrWouldBlock {
			return
		}
		q := new(dns.Msg)
		if err != nil || q.Unpack(b[:n]) != nil || strings.HasPrefix(q.Question[0].Name, "silent") {
			continue
		}
		a := new(dns.Msg).SetReply(q)
		a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: addressOf(q.Question[0].Name)}}
		if packed, err := a.Pack(); err == nil {
			_, _ = c.WriteTo(packed, from) // it may be lost in any case
		}
	}
}

// resolver asks, and checks the answers.
type resolver struct {
	t        *testing.T
	conn     *socket.PacketConn
	port     uint16
	names    map[uint16]string
	answered map[uint16]int
}

func (c *resolver) ask(id uint16, name string) {
	packed, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
	require.NoError(c.t, err)
	packed[0], packed[1] = byte(id>>8), byte(id)
	c.names[id] = name
	_, err = c.conn.Write(packed)
	require.NoError(c.t, err)
}

func (c *resolver) read() {
	for b := make([]byte, maxQuery); ; {
		n, err := c.conn.Read(b)
		if err == socket.ErrWouldBlock {
			return
		}
		require.NoError(c.t, err)
		a := new(dns.Msg)
		require.NoError(c.t, a.Unpack(b[:n]))
		name := c.names[a.Id]
		require.NotEmpty(c.t, name, "an answer to a query of this client")
		require.Equal(c.t, name, a.Question[0].Name)
		c.answered[a.Id]++
		switch {
		case strings.HasPrefix(name, "silent"):
			require.Equal(c.t, dns.RcodeServerFailure, a.Rcode)
		case name == "one.test.":
			require.Equal(c.t, "192.0.2.1", a.Answer[0].(*dns.A).A.String())
		case a.Rcode == dns.RcodeSuccess:
			require.True(c.t, bytes.Equal(addressOf(name), a.Answer[0].(*dns.A).A.To4()), "the answer to this question")
		default:
			require.Equal(c.t, dns.RcodeServerFailure, a.Rcode)
		}
	}
}

// dnsWorld has clients ask while datagrams are lost, doubled and overtaken.
func dnsWorld(t *testing.T, w *sim.World) {
	clients, host, up := w.Host("clients"), w.Host("dns"), w.Host("upstream")
	r := rand.New(rand.NewPCG(w.Seed(), 1))
	doubles := r.IntN(2) == 0
	if w.Faults(sim.Swarm()); !doubles {
		w.Faults(sim.Loss(r.Float64()/2), sim.Reordering(r.Float64()), sim.Latency(0, time.Duration(1+r.Int64N(int64(time.Second)))),
			sim.Spurious(0.05), sim.SmallBatches(0.5), sim.Shuffle())
	}
	type asked struct {
		port uint16
		id   uint16
	}
	arrived, passed := make(map[asked]int), 0 // queries at the server
	w.Rule(func(p *sim.Packet) sim.Verdict {
		if p.Kind == sim.Datagram && p.To == host && p.ToPort == 53 {
			arrived[asked{p.FromPort, uint16(p.Data[0])<<8 | uint16(p.Data[1])}]++
			passed++
		}
		return sim.Deliver
	})
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	begin := func() {
		onHost(t, up, &running, func(cfg loop.Config) error {
			var c *socket.PacketConn
			defer func() { assert.NoError(t, c.Close()) }()
			return loop.Run(ctx, 1, cfg, func(l *loop.Loop) (err error) {
				if c, err = up.ListenPacket("udp", ":53"); err != nil {
					return err
				}
				return l.Poll().Registry().Register(c, l.Handle(func(epore.Event) { answers(c) }), epore.Readable)
			})
		})
	}
	begin()
	s := &server{queries: make(map[uint16]*query), timeout: 2 * time.Second, log: io.Discard,
		hosts: map[string][]netip.Addr{"one.test.": {netip.MustParseAddr("192.0.2.1")}}}
	onHost(t, host, &running, func(cfg loop.Config) error {
		return s.serve(ctx, cfg, host, ":53", up.Addr().String()+":53", func() {})
	})
	w.Settle()
	var all []*resolver
	onHost(t, clients, &running, func(cfg loop.Config) error {
		defer func() {
			for _, c := range all {
				assert.NoError(t, c.conn.Close())
			}
		}()
		return loop.Run(ctx, 1, cfg, func(l *loop.Loop) (err error) {
			for i := range 1 + r.IntN(5) {
				c := &resolver{t: t, names: make(map[uint16]string), answered: make(map[uint16]int)}
				if c.conn, err = clients.DialPacket("udp", "dns:53"); err != nil {
					return err
				}
				c.port = uint16(c.conn.LocalAddr().(*net.UDPAddr).Port)
				all = append(all, c)
				if err = l.Poll().Registry().Register(c.conn, l.Handle(func(epore.Event) { c.read() }), epore.Readable); err != nil {
					return err
				}
				for id := range 1 + r.IntN(50) { // clients use the same numbers
					name := fmt.Sprintf("n%d-%d.test.", i, id)
					switch r.IntN(5) {
					case 0:
						name = "one.test."
					case 1:
						name = fmt.Sprintf("silent%d.test.", id)
					}
					l.After(time.Duration(r.Int64N(int64(10*time.Second))), func() { c.ask(uint16(id), name) })
				}
			}
			return nil
		})
	})
	w.Sleep(time.Duration(r.Int64N(int64(10 * time.Second))))
	switch r.IntN(3) {
	case 0:
		w.Partition(host, up)
		w.Sleep(time.Duration(r.Int64N(int64(20 * time.Second))))
		w.Heal()
	case 1:
		up.Kill() // connected sockets hear that nobody listens
		w.Sleep(time.Duration(r.Int64N(int64(10 * time.Second))))
		begin()
	}
	w.Sleep(time.Minute) // far more than twice the timeout, after the last query
	require.Equal(t, passed, s.answered+s.forwarded+s.failed, "each query that arrives has one answer")
	require.Empty(t, s.queries)
	for _, c := range all {
		for id, n := range c.answered {
			if !doubles {
				require.LessOrEqual(t, n, arrived[asked{c.port, id}], "one answer for each time that a query arrives")
			}
		}
	}

	// In a perfect world, each query has its answer at once.
	w.Faults()
	for _, c := range all {
		clear(c.answered)
		c.ask(1000, "again.test.")
	}
	w.Sleep(time.Second)
	for _, c := range all {
		require.Equal(t, map[uint16]int{1000: 1}, c.answered)
	}
	stop()
	w.Sleep(time.Minute)
	running.Wait()
	for _, h := range []*sim.Host{clients, host, up} {
		require.Zero(t, h.OpenSockets(), h.Name())
	}
}

func TestSim_DNS(t *testing.T) { sim.Explore(t, fixture.Seeds(30), dnsWorld) }
