package socket

import (
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/epore/epore/backend"
)

// PacketConn is a datagram socket, UDP or Unix. It never blocks. It is an epore.Source. All
// methods may be called from any goroutine: each call reads or writes one whole datagram.
type PacketConn struct {
	base
	connected bool
	// unsegmentable: see WriteBatch on Linux
	unsegmentable atomic.Bool //lint:ignore U1000 only Linux has segments
}

// ListenPacket opens a datagram socket at an address. The network is "udp", "udp4", "udp6" or
// "unixgram". Addresses are as for [Listen]. As in package net, with a multicast address the
// socket listens on all addresses, and other sockets may use the same port; it does not join
// the group. As in package net, Close does not remove the file of a Unix datagram socket.
func ListenPacket(network, address string, opts ...Option) (*PacketConn, error) {
	t, err := parse("listen", network, address, true, true)
	if err != nil {
		return nil, err
	}
	o := apply(opts)
	c := new(PacketConn)
	err = t.open(&c.base, func(h handle) error {
		if err := o.check(&t, true); err != nil {
			return err
		}
		if err := preparePacket(h, &t); err != nil {
			return err
		}
		if o.reusePort {
			if err := setReusePort(h); err != nil {
				return err
			}
		}
		if err := o.callControl(&c.base, &t); err != nil {
			return err
		}
		if ip := t.addrPort.Addr(); t.proto == udp && ip.IsMulticast() {
			if err := setMulticastReuse(h); err != nil {
				return err
			}
			return bind(h, t.onAllAddresses())
		}
		return bind(h, &t)
	})
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: t.addr(), Err: err}
	}
	return c, nil
}

// DialPacket opens a datagram socket that is connected to one address: Write sends to it, and
// Read receives only what it sends. The network is as for [ListenPacket]. An address without
// a host means this host.
func DialPacket(network, address string, opts ...Option) (*PacketConn, error) {
	t, err := parse("dial", network, address, true, false)
	if err != nil {
		return nil, err
	}
	o := apply(opts)
	c := &PacketConn{connected: true}
	err = t.open(&c.base, func(h handle) error {
		if err := preparePacket(h, &t); err != nil {
			return err
		}
		if err := o.beforeConnect(&c.base, &t, network); err != nil {
			return err
		}
		return connect(h, &t)
	})
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: t.addr(), Err: err}
	}
	return c, nil
}

// onAllAddresses returns t with the unspecified address.
func (t *target) onAllAddresses() *target {
	all, ip := *t, netip.IPv4Unspecified()
	if t.family == inet6 {
		ip = netip.IPv6Unspecified()
	}
	all.addrPort = netip.AddrPortFrom(ip, t.addrPort.Port())
	return &all
}

// preparePacket sets the options that package net sets.
func preparePacket(h handle, t *target) error {
	if t.proto == udp {
		return setBroadcast(h)
	}
	return nil
}

// Read reads one datagram, which may be empty: then it returns 0 and nil. It returns
// ErrWouldBlock if no datagram is available. If the datagram is longer than b, it returns the
// beginning and ErrTruncated. On a connected socket, it may return syscall.ECONNREFUSED for
// an earlier Write that no socket has received.
func (c *PacketConn) Read(b []byte) (int, error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("read")
	}
	n, err := receiveDatagram(d.Handle(), b)
	if err != nil {
		err = c.transferError("read", backend.Readable, err)
	}
	d.Release()
	return n, err
}

// Write sends b, which may be empty, as one datagram to the address that the socket is
// connected to. It returns ErrWouldBlock if the system has no room for it. For a Unix
// datagram whose receiver is full, the BSDs and macOS return syscall.ENOBUFS instead, or
// syscall.EMSGSIZE; no event reports when there is room again.
func (c *PacketConn) Write(b []byte) (int, error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	n, err := sendDatagram(d.Handle(), b)
	if err != nil {
		n, err = 0, c.transferError("write", backend.Writable, err)
	}
	d.Release()
	return n, err
}

// ReadFromAddrPort is like Read, and also returns the address of the sender, which is never
// IPv4-mapped. On Linux it allocates nothing. It is for UDP: for a Unix socket the returned
// address is not valid.
func (c *PacketConn) ReadFromAddrPort(b []byte) (n int, from netip.AddrPort, err error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, from, c.closed("read")
	}
	n, from, err = receiveFrom(d.Handle(), b)
	if err != nil {
		err = c.transferError("read", backend.Readable, err)
	}
	d.Release()
	return n, from, err
}

// WriteToAddrPort sends b as one datagram to an address. It is for UDP sockets that are not
// connected: on a connected socket it fails with net.ErrWriteToConnected. It returns
// ErrWouldBlock if the system has no room for the datagram. On Linux it allocates nothing.
func (c *PacketConn) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	err := c.checkDestination(to)
	n := 0
	if err == nil {
		n, err = sendTo(d.Handle(), c.family, b, to)
	}
	if err != nil {
		n, err = 0, c.transferError("write", backend.Writable, err)
	}
	d.Release()
	return n, err
}

// checkDestination returns the reason why c cannot send to an address.
func (c *PacketConn) checkDestination(to netip.AddrPort) error {
	switch {
	case c.connected:
		return net.ErrWriteToConnected
	case c.proto != udp || !to.IsValid() || c.family == inet4 && !to.Addr().Unmap().Is4():
		return fmt.Errorf("address %v does not fit this socket: %w", to, fs.ErrInvalid)
	}
	return nil
}

// ReadFrom is like Read, and also returns the address of the sender: a *net.UDPAddr or
// *net.UnixAddr, which it allocates. The address of a Unix socket without a name is nil.
func (c *PacketConn) ReadFrom(b []byte) (n int, from net.Addr, err error) {
	if c.proto == udp {
		n, addr, err := c.ReadFromAddrPort(b)
		if addr.IsValid() {
			from = net.UDPAddrFromAddrPort(addr)
		}
		return n, from, err
	}
	err = c.doTransfer("read", backend.Readable, func(h handle) (err error) {
		n, from, err = sysReceiveFromUnix(h, b)
		return err
	})
	return n, from, err
}

// WriteTo sends b as one datagram to a *net.UDPAddr or *net.UnixAddr. It fails as
// WriteToAddrPort does, and for a Unix datagram as Write does.
func (c *PacketConn) WriteTo(b []byte, to net.Addr) (n int, err error) {
	switch addr := to.(type) {
	case *net.UDPAddr:
		if addr != nil && 0 <= addr.Port && addr.Port <= math.MaxUint16 {
			return c.WriteToAddrPort(b, addr.AddrPort())
		}
	case *net.UnixAddr:
		if addr != nil && c.proto == unixDatagram {
			err = c.doTransfer("write", backend.Writable, func(h handle) (err error) {
				if c.connected {
					return net.ErrWriteToConnected
				}
				n, err = sysSendToUnix(h, b, addr.Name)
				return err
			})
			return n, err
		}
	}
	return 0, c.doTransfer("write", backend.Writable, func(handle) error {
		return fmt.Errorf("address %v does not fit this socket: %w", to, fs.ErrInvalid)
	})
}

// doTransfer calls f with the descriptor. It is for reads and writes off the hot path.
func (c *PacketConn) doTransfer(op string, in backend.Interest, f func(h handle) error) error {
	d := c.descriptor()
	if !d.Acquire() {
		return c.closed(op)
	}
	defer d.Release()
	if err := f(d.Handle()); err != nil {
		return c.transferError(op, in, err)
	}
	return nil
}

// transferError translates err, the error of a read or write. Called between Acquire and
// Release.
func (c *PacketConn) transferError(op string, in backend.Interest, err error) error {
	switch err {
	case ErrWouldBlock:
		return c.wouldBlock(in)
	case ErrTruncated:
		return err
	}
	return c.failed(op, err)
}

// LocalAddr returns the local address, a *net.UDPAddr or *net.UnixAddr. It asks the system
// each time. It returns nil if the PacketConn is closed.
func (c *PacketConn) LocalAddr() net.Addr { return c.address(localAddress) }

// RemoteAddr returns the address that the PacketConn is connected to, as LocalAddr does. It
// returns nil if the PacketConn is not connected.
func (c *PacketConn) RemoteAddr() net.Addr { return c.address(remoteAddress) }
