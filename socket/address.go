package socket

import (
	"net"
	"net/netip"
	"strconv"
)

// proto is what a socket speaks.
type proto uint8

const (
	tcp proto = iota
	unixStream
	udp
	unixDatagram
)

// String is what package net calls it.
func (p proto) String() string { return [...]string{"tcp", "unix", "udp", "unixgram"}[p] }

func (p proto) datagrams() bool { return p == udp || p == unixDatagram }

// family is the kind of its addresses.
type family uint8

const (
	inet4 family = iota
	inet6
	local
)

// target is an address in the form in which a socket is made for it.
type target struct {
	proto    proto
	family   family
	only6    bool           // no IPv4 on this IPv6 socket
	addrPort netip.AddrPort // inet4, inet6; IPv4 is never mapped here
	path     string         // local
}

// addr is the target as package net would say it.
func (t *target) addr() net.Addr {
	switch t.proto {
	case tcp:
		return net.TCPAddrFromAddrPort(t.addrPort)
	case udp:
		return net.UDPAddrFromAddrPort(t.addrPort)
	}
	return &net.UnixAddr{Name: t.path, Net: t.proto.String()}
}

// parse understands network and address as package net does, but for names: those would
// have to be resolved, which would block.
func parse(op, network, address string, datagrams, listen bool) (target, error) {
	t := target{path: address}
	version := byte(0)
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
		if network[:3] == "udp" {
			t.proto = udp
		}
		version = network[len(network)-1]
	case "unix":
		t.proto, t.family = unixStream, local
	case "unixgram":
		t.proto, t.family = unixDatagram, local
	default:
		return t, &net.OpError{Op: op, Net: network, Err: net.UnknownNetworkError(network)}
	}
	if t.proto.datagrams() != datagrams {
		why := "it has datagrams: use ListenPacket or DialPacket"
		if datagrams {
			why = "it is a stream: use Listen or Dial"
		}
		return t, refused(op, network, address, why)
	}
	if t.family == local {
		return t, nil
	}
	ip, port, err := splitLiteral(op, network, address)
	if err != nil {
		return t, err
	}
	return t, t.choose(op, network, address, version, ip, port, listen)
}

// splitLiteral takes host:port apart. No host is the zero Addr, no port is 0.
func splitLiteral(op, network, address string) (ip netip.Addr, port uint16, err error) {
	if address == "" {
		return ip, 0, nil
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return ip, 0, &net.OpError{Op: op, Net: network, Err: err}
	}
	if service != "" {
		n, err := strconv.ParseUint(service, 10, 16)
		if err != nil {
			return ip, 0, refused(op, network, address, "the port is not a number from 0 to 65535")
		}
		port = uint16(n)
	}
	if host != "" {
		if ip, err = netip.ParseAddr(host); err != nil {
			return ip, 0, refused(op, network, address,
				"the host is not a literal IP address: resolve it first, with net.Resolver, since that may block")
		}
	}
	return ip.Unmap(), port, nil // only of the form, never of the zone
}

// choose finds the family and the address, as package net does: who listens on all
// addresses does so for IPv4 and IPv6, and who connects to no address means this host.
func (t *target) choose(op, network, address string, version byte, ip netip.Addr, port uint16, listen bool) error {
	any := !ip.IsValid() || ip.IsUnspecified()
	switch {
	case ip.IsValid() && !any && ip.Is4() && version == '6':
		return refused(op, network, address, "it is an IPv4 address")
	case ip.IsValid() && ip.Is6() && version == '4':
		return refused(op, network, address, "it is an IPv6 address")
	}
	switch {
	case any && !listen && version == '6':
		ip = netip.IPv6Loopback()
	case any && !listen:
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case any && version == '6', any && version != '4' && dualStack():
		ip = netip.IPv6Unspecified()
	case !ip.IsValid(), any && ip.Is4():
		ip = netip.IPv4Unspecified()
	}
	if ip.Is6() {
		t.family = inet6
		t.only6 = version == '6'
	}
	t.addrPort = netip.AddrPortFrom(ip, port)
	return nil
}
