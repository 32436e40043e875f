package socket

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/epore/epore/internal/simfd"
)

// Sockets of a simulated host (package sim) have handles that no system call knows. Where a
// method would make a system call with its handle, it comes through here first, or asks
// simfd.Is itself where a function call more would be felt.

func init() {
	simfd.Listen = func(n simfd.Network, network, address string, opts any) (any, error) {
		return listenOn(n, network, address, opts.([]Option))
	}
	simfd.Dial = func(n simfd.Network, network, address string, opts any) (any, error) {
		return dialOn(n, network, address, opts.([]Option))
	}
	simfd.ListenPacket = func(n simfd.Network, network, address string, opts any) (any, error) {
		return listenPacketOn(n, network, address, opts.([]Option))
	}
	simfd.DialPacket = func(n simfd.Network, network, address string, opts any) (any, error) {
		return dialPacketOn(n, network, address, opts.([]Option))
	}
}

// parseSimulated is parse for a simulated host, which has IPv4 addresses only.
func parseSimulated(op, network, address string, datagrams, listen bool) (target, error) {
	switch network {
	case "tcp":
		network = "tcp4"
	case "udp":
		network = "udp4"
	}
	t, err := parse(op, network, address, datagrams, listen)
	if err == nil && t.family != inet4 {
		err = &net.OpError{Op: op, Net: network, Addr: t.addr(), Err: fmt.Errorf("a simulated host has only IPv4: %w", errors.ErrUnsupported)}
	}
	return t, err
}

// simulatedOptions applies the options that a simulated socket has.
func simulatedOptions(opts []Option, t *target, listen bool) (o options, from netip.AddrPort, err error) {
	o = apply(opts)
	if err = o.check(t, listen); err != nil {
		return o, from, err
	}
	switch {
	case o.reusePort:
		err = fmt.Errorf("ReusePort on a simulated host: %w", errors.ErrUnsupported)
	case o.deferring() > 0:
		err = fmt.Errorf("DeferAccept on a simulated host: %w", errors.ErrUnsupported)
	case o.control != nil:
		err = fmt.Errorf("Control on a simulated host: %w", errors.ErrUnsupported)
	case o.localAddr != nil:
		var local target
		local, err = parseSimulated("dial", "tcp", *o.localAddr, false, true)
		from = local.addrPort
	}
	return o, from, err
}

func listenOn(n simfd.Network, network, address string, opts []Option) (*Listener, error) {
	t, err := parseSimulated("listen", network, address, false, true)
	if err != nil {
		return nil, err
	}
	o, _, err := simulatedOptions(opts, &t, true)
	var h handle
	if err == nil {
		h, err = n.Listen(t.addrPort, o.listenBacklog())
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: t.addr(), Err: err}
	}
	l := new(Listener)
	l.open(h, tcp, inet4)
	return l, nil
}

func dialOn(n simfd.Network, network, address string, opts []Option) (*Conn, error) {
	t, err := parseSimulated("dial", network, address, false, false)
	if err != nil {
		return nil, err
	}
	_, from, err := simulatedOptions(opts, &t, false)
	var h handle
	if err == nil {
		h, err = n.Dial(from, t.addrPort)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: t.addr(), Err: err}
	}
	c := newConn(h, tcp, inet4)
	c.connect.Store(&connectState{errInProgress, t})
	return c, nil
}

func listenPacketOn(n simfd.Network, network, address string, opts []Option) (*PacketConn, error) {
	t, err := parseSimulated("listen", network, address, true, true)
	if err != nil {
		return nil, err
	}
	_, _, err = simulatedOptions(opts, &t, true)
	var h handle
	if err == nil {
		h, err = n.ListenPacket(t.addrPort)
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: t.addr(), Err: err}
	}
	c := new(PacketConn)
	c.open(h, udp, inet4)
	return c, nil
}

func dialPacketOn(n simfd.Network, network, address string, opts []Option) (*PacketConn, error) {
	t, err := parseSimulated("dial", network, address, true, false)
	if err != nil {
		return nil, err
	}
	_, from, err := simulatedOptions(opts, &t, false)
	var h handle
	if err == nil {
		h, err = n.DialPacket(from, t.addrPort)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: t.addr(), Err: err}
	}
	c := &PacketConn{connected: true}
	c.open(h, udp, inet4)
	return c, nil
}

// read is sysRead for both kinds of sockets.
func read(h handle, b []byte) (int, error) {
	if simfd.Is(h) {
		return simfd.Get(h).Read(b)
	}
	return sysRead(h, b)
}

// write is sysWrite for both.
func write(h handle, b []byte) (int, error) {
	if simfd.Is(h) {
		return simfd.Get(h).Write(b)
	}
	return sysWrite(h, b)
}

func readBuffers(h handle, bufs [][]byte) (n int, hasRoom bool, err error) {
	if !simfd.Is(h) {
		return sysReadBuffers(h, bufs)
	}
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		hasRoom = true
		var m int
		m, err = simfd.Get(h).Read(b)
		n += m
		if err != nil || m < len(b) {
			break
		}
	}
	if n > 0 {
		err = nil // it comes again
	}
	return n, hasRoom, err
}

func writeBuffers(h handle, bufs [][]byte) (n int, err error) {
	if !simfd.Is(h) {
		return sysWriteBuffers(h, bufs)
	}
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		m, err := simfd.Get(h).Write(b)
		n += m
		if m < len(b) {
			if n > 0 {
				err = nil // it comes again
			}
			return n, err
		}
	}
	return n, nil
}

func receiveFrom(h handle, b []byte) (n int, from netip.AddrPort, err error) {
	if !simfd.Is(h) {
		return sysReceiveFrom(h, b)
	}
	n, from, err = simfd.Get(h).Receive(b)
	if n > len(b) {
		return len(b), from, ErrTruncated
	}
	return n, from, err
}

func receiveDatagram(h handle, b []byte) (int, error) {
	if !simfd.Is(h) {
		return sysReceive(h, b)
	}
	n, _, err := receiveFrom(h, b)
	return n, err
}

func sendDatagram(h handle, b []byte) (int, error) {
	if simfd.Is(h) {
		return simfd.Get(h).Send(b, netip.AddrPort{})
	}
	return sysSend(h, b)
}

func sendTo(h handle, f family, b []byte, to netip.AddrPort) (int, error) {
	if simfd.Is(h) {
		return simfd.Get(h).Send(b, to)
	}
	return sysSendTo(h, f, b, to)
}

func readBatch(h handle, p proto, ms []Message) (int, error) {
	if !simfd.Is(h) {
		return sysReadBatch(h, p, ms)
	}
	for i := range ms {
		m := &ms[i]
		n, from, err := receiveFrom(h, m.Data)
		if err != nil && err != ErrTruncated {
			return i, err
		}
		m.N, m.ControlN, m.Addr, m.Truncated, m.ControlTruncated = n, 0, from, err != nil, false
	}
	return len(ms), nil
}

func writeBatch(h handle, c *PacketConn, ms []Message) (int, error) {
	if !simfd.Is(h) {
		return sysWriteBatch(h, c, ms)
	}
	for i := range ms {
		m := &ms[i]
		if err := c.check(m); err != nil {
			return i, err
		}
		if len(m.Control) > 0 {
			return i, errNoSimulatedControl
		}
		n, err := simfd.Get(h).Send(m.Data, m.Addr)
		if err != nil {
			return i, err
		}
		m.N = n
	}
	return len(ms), nil
}

var errNoSimulatedControl = fmt.Errorf("control data on a simulated host: %w", errors.ErrUnsupported)

func readMsg(h handle, b, control []byte) (n, controlN int, err error) {
	if !simfd.Is(h) {
		return sysReadMsg(h, b, control)
	}
	n, err = simfd.Get(h).Read(b)
	return n, 0, err
}

func writeMsg(h handle, b, control []byte) (int, error) {
	switch {
	case !simfd.Is(h):
		return sysWriteMsg(h, b, control)
	case len(control) > 0:
		return 0, errNoSimulatedControl
	}
	return simfd.Get(h).Write(b)
}

func accept(h handle) (handle, error) {
	if simfd.Is(h) {
		return simfd.Get(h).Accept()
	}
	return sysAccept(h)
}

// connectError fetches the error of a connection attempt.
func connectError(h handle) error {
	if simfd.Is(h) {
		return simfd.Get(h).PendingError()
	}
	return pendingError(h)
}

func connected(h handle) bool {
	if simfd.Is(h) {
		_, remote := simfd.Get(h).Names()
		return remote.IsValid()
	}
	return isConnected(h)
}

func localAddress(h handle, p proto) net.Addr {
	if simfd.Is(h) {
		local, _ := simfd.Get(h).Names()
		return simulatedAddr(local, p)
	}
	return localName(h, p)
}

func remoteAddress(h handle, p proto) net.Addr {
	if simfd.Is(h) {
		_, remote := simfd.Get(h).Names()
		return simulatedAddr(remote, p)
	}
	return remoteName(h, p)
}

func simulatedAddr(a netip.AddrPort, p proto) net.Addr {
	switch {
	case !a.IsValid():
		return nil
	case p == udp:
		return net.UDPAddrFromAddrPort(a)
	}
	return net.TCPAddrFromAddrPort(a)
}

func shutdown(h handle, reading bool) error {
	switch {
	case simfd.Is(h):
		return simfd.Get(h).Shutdown(reading)
	case reading:
		return shutdownRead(h)
	}
	return shutdownWrite(h)
}
