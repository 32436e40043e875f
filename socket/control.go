package socket

import (
	"fmt"
	"io/fs"
	"net/netip"
	"syscall"
)

// Control calls a function with each new socket, after the package has set its own options
// and before it binds, listens or connects: so that every option of the system can be set,
// also those that come too late afterwards. It is like the field Control of
// [net.ListenConfig]: network is "tcp4", "tcp6", "udp4", "udp6", "unix" or "unixgram", and
// address is where to listen, or where to connect to. The descriptor must not be used after
// the function has returned, except through the new socket. When the function fails, so does
// the call that Control was passed to.
func Control(f func(network, address string, c syscall.RawConn) error) Option {
	return func(o *options) { o.control = f }
}

// LocalAddr is the address that [Dial] or [DialPacket] connects from. Its form is that of
// [Listen] for the same network: a literal IP of the family of the other address, or no
// host; a port, or 0 for a free one; or the path of a Unix socket, which stays as a file.
// To connect often from one given port, set SO_REUSEADDR by [Control].
func LocalAddr(address string) Option {
	return func(o *options) { o.localAddr = &address }
}

// beforeBind does what is to be done before a socket that listens is bound.
func (o *options) beforeBind(b *base, t *target) error {
	if o.localAddr != nil {
		return fmt.Errorf("LocalAddr is for Dial and DialPacket: %w", fs.ErrInvalid)
	}
	return o.callControl(b, t)
}

// beforeConnect does what is to be done before a socket connects.
func (o *options) beforeConnect(b *base, t *target, network string) error {
	if o.deferAccept > 0 {
		return fmt.Errorf("DeferAccept is for Listen: %w", fs.ErrInvalid)
	}
	if o.reusePort {
		if err := setReusePort(b.descriptor().Handle()); err != nil {
			return err
		}
	}
	if err := o.callControl(b, t); err != nil || o.localAddr == nil {
		return err
	}
	from, err := parse("dial", network, *o.localAddr, t.proto.datagrams(), true)
	if err != nil {
		return err
	}
	if from.family != t.family {
		ip := from.addrPort.Addr()
		if !ip.IsUnspecified() {
			return fmt.Errorf("LocalAddr %s is of another family: %w", *o.localAddr, fs.ErrInvalid)
		}
		from.family = t.family
		ip = netip.IPv4Unspecified()
		if t.family == inet6 {
			ip = netip.IPv6Unspecified()
		}
		from.addrPort = netip.AddrPortFrom(ip, from.addrPort.Port())
	}
	return bind(b.descriptor().Handle(), &from)
}

// namesPort reports whether LocalAddr names a port. Then a Conn that is connected to itself is
// what was asked for.
func (o *options) namesPort() bool {
	if o.localAddr == nil {
		return false
	}
	_, port, err := splitLiteral("dial", "tcp", *o.localAddr)
	return err == nil && port != 0
}

func (o *options) callControl(b *base, t *target) error {
	if o.control == nil {
		return nil
	}
	network := t.proto.String()
	switch t.family {
	case inet4:
		network += "4"
	case inet6:
		network += "6"
	}
	return o.control(network, t.addr().String(), (*rawConn)(b))
}
