package socket

import (
	"fmt"
	"io/fs"
	"net/netip"
	"syscall"
)

// Control calls a function with each new socket, before bind, listen and connect. The package
// has set its default options by then, so the function can override them, and can set every
// option that the system has. It is like the field Control of [net.ListenConfig]: network is
// "tcp4", "tcp6", "udp4", "udp6", "unix" or "unixgram", and address is the address to listen
// on or to connect to. If the function returns an error, so does the call that Control was
// passed to.
func Control(f func(network, address string, c syscall.RawConn) error) Option {
	return func(o *options) { o.control = f }
}

// LocalAddr sets the address that [Dial] or [DialPacket] connects from. It has the form that
// [Listen] takes: a literal IP of the same family as the remote address, or no host; a port,
// or 0 for a free one; or the path of a Unix socket, whose file is not removed. To connect
// repeatedly from the same port, set SO_REUSEADDR with [Control].
func LocalAddr(address string) Option {
	return func(o *options) { o.localAddr = &address }
}

// beforeConnect applies the options that come before connect.
func (o *options) beforeConnect(b *base, t *target, network string) error {
	if err := o.check(t, false); err != nil {
		return err
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

// namesPort reports whether LocalAddr names a port. Then a connection to itself is what the
// caller asked for.
func (o *options) namesPort() bool {
	if o.localAddr == nil {
		return false
	}
	_, port, err := splitLiteral("dial", "tcp", *o.localAddr)
	return err == nil && port != 0
}

// callControl calls the function of Control, before bind and connect.
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
