package sim

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/simfd"
	"github.com/epore/epore/socket"
)

// ErrCrashed is the error of a Poll, a Task and a socket of a Host that has crashed or whose
// program was killed.
var ErrCrashed = errors.New("the simulated host has crashed")

// Host is a machine of a World, with one address, and one program on it.
type Host struct {
	w      *World
	name   string
	number int
	ip     netip.Addr

	// Under the World's lock.
	down          bool
	queues        int
	tasks         int
	sockets       int // were made so far
	events        int
	spinning      int // turns with events since the program made progress
	spinningSince time.Duration
	open          int // descriptors
	limit         int // of descriptors; 0: none
	port          uint16
	streams       map[uint16]*listener
	packets       map[uint16]*datagrams
	conns         map[connKey]*stream // all that have not ended
}

// Host returns a new Host. Its name stands for its address in Dial, and is in the trace. Make
// the Hosts of a World in an order that does not vary, because the draws go by it.
func (w *World) Host(name string) *Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.hosts) + 1
	h := &Host{w: w, name: name, number: n, ip: netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), port: firstEphemeral}
	h.forget()
	w.hosts = append(w.hosts, h)
	return h
}

// connKey tells the connections of a Host apart.
type connKey struct {
	port   uint16
	remote netip.AddrPort
}

const firstEphemeral = 32768

func (h *Host) forget() {
	h.streams, h.packets, h.conns = map[uint16]*listener{}, map[uint16]*datagrams{}, map[connKey]*stream{}
	h.open = 0
}

// Name returns the name.
func (h *Host) Name() string { return h.name }

// Addr returns the address.
func (h *Host) Addr() netip.Addr { return h.ip }

// LimitDescriptors lets the Host have at most n open sockets; zero means any number. Beyond
// that, Listen, Dial and Accept fail with EMFILE. Open sockets stay.
func (h *Host) LimitDescriptors(n int) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.limit = n
}

// OpenSockets returns how many sockets the program of the Host has open.
func (h *Host) OpenSockets() int {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.open
}

// Listen is socket.Listen on this Host: "tcp", at its address or all addresses.
func (h *Host) Listen(network, address string, opts ...socket.Option) (*socket.Listener, error) {
	l, err := simfd.Listen((*hostNetwork)(h), network, h.literal(address), opts)
	if err != nil {
		return nil, err
	}
	return l.(*socket.Listener), nil
}

// Dial is socket.Dial on this Host. In the address, the name of a Host may stand for its IP
// address: "b:80".
func (h *Host) Dial(network, address string, opts ...socket.Option) (*socket.Conn, error) {
	c, err := simfd.Dial((*hostNetwork)(h), network, h.literal(address), opts)
	if err != nil {
		return nil, err
	}
	return c.(*socket.Conn), nil
}

// ListenPacket is socket.ListenPacket on this Host, for "udp".
func (h *Host) ListenPacket(network, address string, opts ...socket.Option) (*socket.PacketConn, error) {
	c, err := simfd.ListenPacket((*hostNetwork)(h), network, h.literal(address), opts)
	if err != nil {
		return nil, err
	}
	return c.(*socket.PacketConn), nil
}

// DialPacket is socket.DialPacket on this Host, for "udp".
func (h *Host) DialPacket(network, address string, opts ...socket.Option) (*socket.PacketConn, error) {
	c, err := simfd.DialPacket((*hostNetwork)(h), network, h.literal(address), opts)
	if err != nil {
		return nil, err
	}
	return c.(*socket.PacketConn), nil
}

// literal replaces the name of a host by its address.
func (h *Host) literal(address string) string {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	for _, other := range h.w.hosts {
		if strings.EqualFold(other.name, name) {
			return net.JoinHostPort(other.ip.String(), port)
		}
	}
	return address
}

// Crash takes the Host off, as when its power fails: its queues, Tasks and sockets fail with
// ErrCrashed, and its peers hear nothing. Everything sent to it is lost until Restart. A queue
// or socket that is made before Restart fails, too.
func (h *Host) Crash() {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.record(record{what: changedWorld, text: h.name + " crashes"})
	h.down = true
	for _, s := range h.sortedConns() {
		s.vanish()
	}
	h.endProgram()
}

// Kill ends the program of the Host, as SIGKILL does: its queues, Tasks and sockets fail with
// ErrCrashed, and the system closes its connections. Connections that have unread data are
// reset.
func (h *Host) Kill() {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.record(record{what: changedWorld, text: h.name + ": its program is killed"})
	listeners, conns := sorted(h.streams), h.sortedConns()
	h.endProgram() // first: the program has none of them any more, whatever becomes of them
	for _, l := range listeners {
		l.close()
	}
	for _, s := range conns {
		s.close()
	}
}

// Restart turns a Host on that has crashed. It answers what is sent to connections that it
// had with a reset. Give its new program new queues and sockets.
func (h *Host) Restart() {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.record(record{what: changedWorld, text: h.name + " is on again"})
	h.down = false
}

// endProgram makes everything fail that the program of h has. Called with the lock held.
func (h *Host) endProgram() {
	for _, l := range h.streams {
		l.failed = ErrCrashed
	}
	for _, d := range h.packets {
		d.failed = ErrCrashed
	}
	for _, s := range h.conns {
		s.failed = ErrCrashed
	}
	h.forget()
	h.w.waiters = slices.DeleteFunc(h.w.waiters, func(c *waiter) bool {
		if c.host == h {
			c.gone = true
			c.stop(ErrCrashed)
		}
		return c.host == h
	})
}

func sorted[V any](m map[uint16]V) (values []V) {
	keys := make([]uint16, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		values = append(values, m[k])
	}
	return values
}

func (h *Host) sortedConns() []*stream {
	all := make([]*stream, 0, len(h.conns))
	for _, s := range h.conns {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *stream) int { return a.number - b.number })
	return all
}

// A Task is a goroutine of a Host that acts in turns, as Polls do. So what it does repeats.
type Task struct {
	h *Host
	c *waiter
}

// Go starts f in a goroutine, whose turns come by the seed. f may poll, too. A panic in f has
// the World print its seed and the end of the trace first.
func (h *Host) Go(f func(*Task)) {
	w := h.w
	w.mu.Lock()
	h.tasks++
	t := &Task{h, w.newWaiter(fmt.Sprintf("%s/task%d", h.name, h.tasks), h)}
	w.mu.Unlock()
	go func() {
		defer w.leave(t.c)
		defer func() {
			if why := recover(); why != nil {
				w.mu.Lock()
				fmt.Fprintf(os.Stderr, "sim: a Task panics; to repeat: %s\n%s\n", w.repeat(), w.trace.last())
				w.mu.Unlock()
				panic(why)
			}
		}()
		if w.wait(t.c, 0, nil) == nil {
			f(t)
		}
	}()
}

// Sleep lets the virtual time d pass. With d zero or less it only lets others go first. It
// returns ErrCrashed or ErrEnded if the Task shall end.
func (t *Task) Sleep(d time.Duration) error { return t.h.w.wait(t.c, max(d, 0), nil) }

// Host returns the Host.
func (t *Task) Host() *Host { return t.h }

// hostNetwork makes sockets for package socket.
type hostNetwork Host

func (n *hostNetwork) Listen(at netip.AddrPort, backlog int) (backend.Handle, error) {
	h := (*Host)(n)
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	port, err := h.bind(at, func(port uint16) bool { return h.streams[port] != nil })
	if err != nil {
		return 0, err
	}
	l := &listener{backlog: min(backlog, maxBacklog)}
	l.init(h, port)
	handle, err := h.give(l, "socket")
	if err == nil {
		h.streams[port] = l
	}
	return handle, err
}

func (n *hostNetwork) Dial(from, to netip.AddrPort) (backend.Handle, error) {
	h := (*Host)(n)
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	to = h.resolve(to)
	port, err := h.bind(from, func(port uint16) bool { return h.uses(port, to) })
	if err != nil {
		return 0, err
	}
	s := newStream(h, port, to)
	handle, err := h.give(s, "socket")
	if err == nil {
		s.connect()
	}
	return handle, err
}

func (n *hostNetwork) ListenPacket(at netip.AddrPort) (backend.Handle, error) {
	return (*Host)(n).openDatagrams(at, netip.AddrPort{})
}

func (n *hostNetwork) DialPacket(from, to netip.AddrPort) (backend.Handle, error) {
	return (*Host)(n).openDatagrams(from, to)
}

func (h *Host) openDatagrams(at, to netip.AddrPort) (backend.Handle, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	port, err := h.bind(at, func(port uint16) bool { return h.packets[port] != nil })
	if err != nil {
		return 0, err
	}
	d := &datagrams{}
	if to.IsValid() {
		d.remote = h.resolve(to)
	}
	d.init(h, port)
	handle, err := h.give(d, "socket")
	if err == nil {
		h.packets[port] = d
	}
	return handle, err
}

// resolve replaces a loopback address by that of the host.
func (h *Host) resolve(a netip.AddrPort) netip.AddrPort {
	if a.Addr().IsLoopback() || a.Addr().IsUnspecified() {
		return netip.AddrPortFrom(h.ip, a.Port())
	}
	return a
}

// bind returns the port to use, which is free.
func (h *Host) bind(at netip.AddrPort, used func(port uint16) bool) (uint16, error) {
	switch {
	case h.down:
		return 0, ErrCrashed
	case at.IsValid() && h.resolve(at).Addr() != h.ip:
		return 0, os.NewSyscallError("bind", errAddressNotAvailable)
	case at.Port() != 0 && used(at.Port()):
		return 0, os.NewSyscallError("bind", errAddressInUse)
	case at.Port() != 0:
		return at.Port(), nil
	}
	for range math.MaxUint16 - firstEphemeral {
		port := h.port
		if h.port++; h.port < firstEphemeral {
			h.port = firstEphemeral
		}
		if !used(port) {
			return port, nil
		}
	}
	return 0, os.NewSyscallError("bind", errAddressNotAvailable)
}

// uses reports whether a stream from that port to that address exists.
func (h *Host) uses(port uint16, to netip.AddrPort) bool {
	return h.streams[port] != nil || h.conns[connKey{port, to}] != nil
}

// give opens a handle.
func (h *Host) give(s interface {
	simfd.Socket
	opened()
}, call string) (backend.Handle, error) {
	if h.limit > 0 && h.open >= h.limit {
		return 0, os.NewSyscallError(call, errTooManyFiles)
	}
	handle, ok := simfd.Open(s)
	if !ok {
		return 0, os.NewSyscallError(call, errFileTable)
	}
	h.open++
	s.opened()
	return handle, nil
}

// host returns the host with that address, or nil.
func (w *World) host(ip netip.Addr) *Host {
	b := ip.As16()
	n := int(b[14])<<8 | int(b[15])
	if n < 1 || n > len(w.hosts) || w.hosts[n-1].ip != ip {
		return nil
	}
	return w.hosts[n-1]
}
