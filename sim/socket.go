package sim

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"time"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/socket"
)

// node is what all simulated sockets have in common. Its fields are under the World's lock.
type node struct {
	w       *World
	host    *Host
	port    uint16
	number  int  // on its host
	given   bool // the program has a descriptor of it
	watches []*watch
	random  *rand.Rand // made when it is needed
	closed  bool       // by the program
	failed  error      // its host has crashed
	self    interface{ readiness() backend.Readiness }
}

func (n *node) init(h *Host, port uint16, self interface{ readiness() backend.Readiness }) {
	h.sockets++
	n.w, n.host, n.port, n.number, n.self = h.w, h, port, h.sockets, self
}

func (n *node) base() *node { return n }

// opened records that the program has the socket.
func (n *node) opened() { n.given = true }

func (n *node) name() endpoint { return endpoint{n.host, n.port} }

func (n *node) local() netip.AddrPort { return netip.AddrPortFrom(n.host.ip, n.port) }

// draws returns the generator of the socket.
func (n *node) draws() *rand.Rand {
	if n.random == nil {
		n.random = rand.New(rand.NewPCG(n.w.seed, uint64(n.host.number)<<32|1<<31|uint64(n.number)))
	}
	return n.random
}

// chance draws whether something of probability p happens.
func (n *node) chance(p float64) bool { return p > 0 && n.draws().Float64() < p }

// update looks for events after the state has changed.
func (n *node) update() {
	for _, c := range n.watches {
		c.look()
	}
}

func (n *node) readiness() backend.Readiness {
	if n.failed != nil {
		return backend.ReadyError | backend.ReadyReadClosed | backend.ReadyWriteClosed
	}
	return n.self.readiness()
}

// wouldBlock returns the error of an operation that can do nothing now.
func (n *node) wouldBlock(in backend.Interest) error {
	for _, c := range n.watches {
		c.wouldBlock(in)
		c.look() // a spurious one, or one that was not for this
	}
	return socket.ErrWouldBlock
}

// progress records that an operation has done something.
func (n *node) progress() { n.host.spinning = 0 }

// latency draws how long a packet of so many bytes takes on the link to another host.
func (n *node) latency(to *Host, bytes int) time.Duration {
	l := n.w.link(n.host, to)
	d := l.minLatency
	if l.maxLatency > d {
		d += time.Duration(n.draws().Int64N(int64(l.maxLatency - d + 1)))
	}
	if l.bandwidth > 0 {
		direction := 0
		if n.host.number > to.number {
			direction = 1
		}
		now := n.w.now()
		l.free[direction] = max(l.free[direction], now) + time.Duration(float64(bytes)/float64(l.bandwidth)*float64(time.Second))
		d += l.free[direction] - now
	}
	return d
}

// The operations that a kind of socket does not have.

func (n *node) Read([]byte) (int, error)  { return 0, os.NewSyscallError("recv", errNotConnected) }
func (n *node) Write([]byte) (int, error) { return 0, os.NewSyscallError("send", errNotConnected) }
func (n *node) Receive([]byte) (int, netip.AddrPort, error) {
	return 0, netip.AddrPort{}, os.NewSyscallError("recv", errInvalid)
}
func (n *node) Send([]byte, netip.AddrPort) (int, error) {
	return 0, os.NewSyscallError("send", errInvalid)
}
func (n *node) Accept() (backend.Handle, error) {
	return 0, os.NewSyscallError("accept", errInvalid)
}
func (n *node) Shutdown(bool) error { return os.NewSyscallError("shutdown", errNotConnected) }
func (n *node) PendingError() error { return nil }
func (n *node) SetLinger(int)       {}

// lock takes the World's lock. It returns an error if the host has crashed.
func (n *node) lock() error {
	n.w.mu.Lock()
	return n.failed
}

// close1 records that the program has closed the socket. It returns false if its host has
// crashed since it was opened: then there is nothing left to close.
func (n *node) close1() bool {
	n.closed = true
	if n.failed != nil {
		return false
	}
	n.host.open--
	n.progress()
	return true
}
