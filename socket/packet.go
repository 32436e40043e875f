package socket

import (
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/epore/epore/backend"
)

// PacketConn is a socket for datagrams that never blocks: UDP or Unix. It is an
// epore.Source. All methods may be called from any goroutine; each datagram is read or
// written by one of them as a whole.
type PacketConn struct {
	base
	connected bool
}

// ListenPacket opens a socket for datagrams at an address: network is "udp", "udp4",
// "udp6" or "unixgram". Addresses are as in [Listen]. The file of a Unix socket stays
// when it is closed, as in package net.
func ListenPacket(network, address string, opts ...Option) (*PacketConn, error) {
	t, err := parse("listen", network, address, true, true)
	if err != nil {
		return nil, err
	}
	o := apply(opts)
	c := new(PacketConn)
	err = t.open(&c.base, func(h handle) error {
		if err := preparePacket(h, &t); err != nil {
			return err
		}
		if o.reusePort {
			if err := setReusePort(h); err != nil {
				return err
			}
		}
		if o.deferAccept > 0 {
			return fmt.Errorf("DeferAccept is for TCP: %w", fs.ErrInvalid)
		}
		return bind(h, &t)
	})
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: t.addr(), Err: err}
	}
	return c, nil
}

// DialPacket opens a socket for datagrams to and from one address: Write sends there,
// and Read receives what comes from there. Networks are as in [ListenPacket]; no host
// means this one.
func DialPacket(network, address string) (*PacketConn, error) {
	t, err := parse("dial", network, address, true, false)
	if err != nil {
		return nil, err
	}
	c := &PacketConn{connected: true}
	err = t.open(&c.base, func(h handle) error {
		if err := preparePacket(h, &t); err != nil {
			return err
		}
		return connect(h, &t)
	})
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: t.addr(), Err: err}
	}
	return c, nil
}

// preparePacket sets what package net sets.
func preparePacket(h handle, t *target) error {
	if t.proto == udp {
		return setBroadcast(h)
	}
	return nil
}

// Read reads one datagram, which may be empty (0 and nil); ErrWouldBlock when there is
// none. Of one that is longer than b it returns the beginning, and ErrTruncated. On a
// connected socket an earlier Write that found nobody there may show as
// syscall.ECONNREFUSED.
func (c *PacketConn) Read(b []byte) (int, error) {
	d := c.own()
	if !d.Acquire() {
		return 0, c.closed("read")
	}
	n, err := sysReceive(d.Handle(), b)
	if err != nil {
		err = c.transferError("read", backend.Readable, err)
	}
	d.Release()
	return n, err
}

// Write sends b, which may be empty, as one datagram to where the socket is connected. It
// returns ErrWouldBlock when there is no room for it.
func (c *PacketConn) Write(b []byte) (int, error) {
	d := c.own()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	n, err := sysSend(d.Handle(), b)
	if err != nil {
		n, err = 0, c.transferError("write", backend.Writable, err)
	}
	d.Release()
	return n, err
}

// ReadFromAddrPort is Read, and tells who sent it. Addresses are never IPv4-mapped. On
// Linux nothing is allocated. It is for UDP: of a Unix socket the address is not valid.
func (c *PacketConn) ReadFromAddrPort(b []byte) (n int, from netip.AddrPort, err error) {
	d := c.own()
	if !d.Acquire() {
		return 0, from, c.closed("read")
	}
	n, from, err = sysReceiveFrom(d.Handle(), b)
	if err != nil {
		err = c.transferError("read", backend.Readable, err)
	}
	d.Release()
	return n, from, err
}

// WriteToAddrPort sends b as one datagram to an address, of a UDP socket that is not
// connected (else net.ErrWriteToConnected). ErrWouldBlock: there is no room for it. On
// Linux nothing is allocated.
func (c *PacketConn) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	d := c.own()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	err := c.accepts(to)
	n := 0
	if err == nil {
		n, err = sysSendTo(d.Handle(), c.family, b, to)
	}
	if err != nil {
		n, err = 0, c.transferError("write", backend.Writable, err)
	}
	d.Release()
	return n, err
}

// accepts says why nothing can be sent to an address from here.
func (c *PacketConn) accepts(to netip.AddrPort) error {
	switch {
	case c.connected:
		return net.ErrWriteToConnected
	case c.proto != udp || !to.IsValid() || c.family == inet4 && !to.Addr().Unmap().Is4():
		return fmt.Errorf("the address %v does not fit this socket: %w", to, fs.ErrInvalid)
	}
	return nil
}

// ReadFrom is Read, and tells who sent it: a *net.UDPAddr or *net.UnixAddr, which is
// allocated. The address of a Unix socket without a name is nil.
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

// WriteTo sends b as one datagram to a *net.UDPAddr or *net.UnixAddr.
func (c *PacketConn) WriteTo(b []byte, to net.Addr) (n int, err error) {
	switch addr := to.(type) {
	case *net.UDPAddr:
		if addr != nil {
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
		return fmt.Errorf("the address %v does not fit this socket: %w", to, fs.ErrInvalid)
	})
}

// doTransfer calls f with the descriptor, to read or write.
func (c *PacketConn) doTransfer(op string, in backend.Interest, f func(h handle) error) error {
	d := c.own()
	if !d.Acquire() {
		return c.closed(op)
	}
	defer d.Release()
	if err := f(d.Handle()); err != nil {
		return c.transferError(op, in, err)
	}
	return nil
}

// transferError is what reading or writing returns for err. Between Acquire and
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

// LocalAddr returns the local address, asked of the system at each call: a *net.UDPAddr
// or *net.UnixAddr. It is nil when the PacketConn is closed.
func (c *PacketConn) LocalAddr() net.Addr { return c.named(localName) }

// RemoteAddr returns the address that the PacketConn is connected to, as LocalAddr does;
// nil when it is not.
func (c *PacketConn) RemoteAddr() net.Addr { return c.named(remoteName) }
