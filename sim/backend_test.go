//go:build unix

package sim_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/simfd"
	"github.com/epore/epore/sim"
)

// simulation makes the fixtures of package fixture on a simulated host.
type simulation struct {
	t *testing.T
	w *sim.World
	h *sim.Host
}

func (s *simulation) Bubble(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		s.t, s.w = t, sim.NewSeed(t, 1)
		s.h = s.w.Host("a")
		f(t)
	})
}

func (s *simulation) must(h backend.Handle, err error) int {
	require.NoError(s.t, err)
	return int(h)
}

func (s *simulation) at(port int) netip.AddrPort {
	return netip.AddrPortFrom(s.h.Addr(), uint16(port))
}

func (s *simulation) port(fd int) int {
	local, _ := simfd.Get(backend.Handle(fd)).Names()
	return int(local.Port())
}

func (s *simulation) Pair(stream bool) (a, b int) {
	n := s.h.Loopback()
	if !stream {
		a, b = s.must(n.ListenPacket(netip.AddrPort{})), s.must(n.ListenPacket(netip.AddrPort{}))
		require.NoError(s.t, s.Connect(a, s.port(b)))
		require.NoError(s.t, s.Connect(b, s.port(a)))
		return a, b
	}
	l := s.must(n.Listen(netip.AddrPort{}, 1))
	a = s.must(n.Dial(netip.AddrPort{}, s.at(s.port(l))))
	require.True(s.t, s.Await(l, backend.ReadyReadable, time.Second))
	b = s.must(simfd.Get(backend.Handle(l)).Accept())
	require.NoError(s.t, simfd.Close(backend.Handle(l)))
	require.True(s.t, s.Await(a, backend.ReadyWritable, time.Second))
	return a, b
}

func (s *simulation) Socket(stream bool) int {
	if !stream {
		return s.must(s.h.Loopback().ListenPacket(netip.AddrPort{}))
	}
	h, ok := simfd.Open(new(sim.Fresh))
	require.True(s.t, ok)
	return int(h)
}

// Bind makes a stream socket a listener, which is all that tests bind one for.
func (s *simulation) Bind(fd int) error {
	if f, ok := simfd.Get(backend.Handle(fd)).(*sim.Fresh); ok {
		f.Become(backend.Handle(s.must(s.h.Loopback().Listen(netip.AddrPort{}, 128))))
	}
	return nil
}

func (s *simulation) Listen(int, int) error { return nil }

func (s *simulation) Connect(fd, port int) error {
	if !s.w.ConnectDatagrams(backend.Handle(fd), port) {
		h := s.must(s.h.Loopback().Dial(netip.AddrPort{}, s.at(port)))
		simfd.Get(backend.Handle(fd)).(*sim.Fresh).Become(backend.Handle(h))
	}
	return nil
}

func (s *simulation) Await(fd int, ready backend.Readiness, timeout time.Duration) bool {
	for begin := time.Now(); ; s.w.Sleep(time.Millisecond) {
		s.w.Settle()
		if r := s.w.Ready(backend.Handle(fd)); r&ready != 0 {
			return true
		}
		if time.Since(begin) >= timeout {
			return false
		}
	}
}

// waiting is a queue whose Wait waits, as backendtest has it.
type waiting struct{ backend.Backend }

func (q waiting) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	if err := q.Backend.(backend.Quiescer).WaitQuiet(timeout, func() bool { return false }); err != nil {
		return 0, err
	}
	return q.Backend.Wait(dst, 0)
}

// Without faults, the queue of a simulated host passes what the queues of real systems pass.
//
// contract: V1
func TestBackend(t *testing.T) {
	s := new(simulation)
	fixture.Simulated = s
	defer func() { fixture.Simulated = nil }()
	backendtest.Run(t, func() (backend.Backend, error) {
		b := waiting{s.h.Backend()}
		return b, b.Open()
	}, exceptions...)
}

var exceptions = []backendtest.Exception{
	{Case: "registered before connect", Why: "Dial makes a simulated socket that connects"},
	{Case: "a Unix stream socket", Why: "streams are TCP"},
	{Case: "an impossible descriptor is refused", Why: "a number that is not simulated may be a real descriptor"},
	{Case: "signals do not end a wait", Why: "a bubble and package os/signal do not mix"},
}
