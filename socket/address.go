package socket

import (
	"net"
	"net/netip"
	"strconv"
)

// proto is the protocol of a socket.
type proto uint8

const (
	tcp proto = iota
	unixStream
	udp
	unixDatagram
)

// String returns the name of the protocol in package net.
func (p proto) String() string { return [...]string{"tcp", "unix", "udp", "unixgram"}[p] }

func (p proto) datagrams() bool { return p == udp || p == unixDatagram }

// family is the kind of addresses that a socket has.
type family uint8

const (
	inet4 family = iota
	inet6
	unixDomain
)

// target is a parsed address, with what is needed to create a socket for it.
type target struct {
	proto    proto
	family   family
	ipv6Only bool           // for an IPv6 socket: no IPv4
	addrPort netip.AddrPort // inet4, inet6; never IPv4-mapped
	path     string         // unixDomain
}

// addr returns the target as an address of package net.
func (t *target) addr() net.Addr {
	switch t.proto {
	case tcp:
		return net.TCPAddrFromAddrPort(t.addrPort)
	case udp:
		return net.UDPAddrFromAddrPort(t.addrPort)
	}
	return &net.UnixAddr{Name: t.path, Net: t.proto.String()}
}

// parse parses a network and an address as package net does, but refuses names: resolving
// them would block.
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
		t.proto, t.family = unixStream, unixDomain
	case "unixgram":
		t.proto, t.family = unixDatagram, unixDomain
	default:
		return t, &net.OpError{Op: op, Net: network, Err: net.UnknownNetworkError(network)}
	}
	if t.proto.datagrams() != datagrams {
		why := "datagram network: use ListenPacket or DialPacket"
		if datagrams {
			why = "stream network: use Listen or Dial"
		}
		return t, addressError(op, network, address, why)
	}
	if t.family == unixDomain {
		return t, nil
	}
	ip, port, err := splitLiteral(op, network, address)
	if err != nil {
		return t, err
	}
	return t, t.choose(op, network, address, version, ip, port, listen)
}

// splitLiteral splits host:port. Without a host, ip is the zero Addr; without a port, port is 0.
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
			return ip, 0, addressError(op, network, address, "port is not a number from 0 to 65535")
		}
		port = uint16(n)
	}
	if host != "" {
		if ip, err = netip.ParseAddr(host); err != nil {
			return ip, 0, addressError(op, network, address,
				"host is not a literal IP address: resolve it first with net.Resolver, which may block")
		}
	}
	return ip.Unmap(), port, nil // Unmap keeps the zone of an IPv6 address
}

// choose sets the family and the address, as package net does: listening on all addresses
// means both IPv4 and IPv6, and connecting to the unspecified address means this host.
func (t *target) choose(op, network, address string, version byte, ip netip.Addr, port uint16, listen bool) error {
	any := !ip.IsValid() || ip.IsUnspecified()
	switch {
	case ip.IsValid() && !any && ip.Is4() && version == '6':
		return addressError(op, network, address, "IPv4 address on an IPv6 network")
	case ip.IsValid() && ip.Is6() && version == '4':
		return addressError(op, network, address, "IPv6 address on an IPv4 network")
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
		t.ipv6Only = version == '6'
	}
	t.addrPort = netip.AddrPortFrom(ip, port)
	return nil
}
