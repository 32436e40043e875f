package socket

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
)

// proto is the protocol of a socket.
type proto uint8

const (
	unopened proto = iota // of a zero value
	tcp
	unixStream
	udp
	unixDatagram
	otherStream    // of a family that parse does not know: see FromFD
	otherDatagrams // as well
)

// String returns the name of the protocol in package net.
func (p proto) String() string {
	return [...]string{"", "tcp", "unix", "udp", "unixgram", "stream", "datagrams"}[p]
}

func (p proto) datagrams() bool { return p == udp || p == unixDatagram || p == otherDatagrams }

// family is the kind of addresses that a socket has.
type family uint8

const (
	inet4 family = iota
	inet6
	unixDomain
	otherFamily // see FromFD
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
	case otherStream, otherDatagrams:
		return nil
	}
	return &net.UnixAddr{Name: t.path, Net: t.proto.String()}
}

// parse parses a network and an address as package net does, but refuses names: resolving
// them would block.
func parse(op, network, address string, datagrams, listen bool) (target, error) {
	t := target{proto: tcp, path: address}
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
		var err error = net.UnknownNetworkError(network)
		if network == "" {
			err = fmt.Errorf(`%w"": use "tcp", "udp", "unix" or "unixgram"`, err)
		}
		return t, &net.OpError{Op: op, Net: network, Err: err}
	}
	if t.proto.datagrams() != datagrams {
		why := "datagram network: use ListenPacket or DialPacket"
		if datagrams {
			why = "stream network: use Listen or Dial"
		}
		return t, addressError(op, network, address, why)
	}
	if !listen && address == "" {
		return t, addressError(op, network, address, "missing address")
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
	port, ok := parsePort(service)
	if !ok {
		return ip, 0, addressError(op, network, address, "port is not a number from 0 to 65535")
	}
	if host != "" {
		if ip, err = netip.ParseAddr(host); err != nil {
			return ip, 0, addressError(op, network, address,
				"host is not a literal IP address: resolve it first with net.Resolver, which may block")
		}
	}
	return ip.Unmap(), port, nil // Unmap keeps the zone of an IPv6 address
}

// parsePort parses a port as package net does: decimal digits, which may follow a sign.
func parsePort(service string) (port uint16, ok bool) {
	negative := strings.HasPrefix(service, "-")
	if negative || strings.HasPrefix(service, "+") {
		service = service[1:]
	}
	n := 0
	for _, digit := range []byte(service) {
		if digit < '0' || '9' < digit {
			return 0, false
		}
		n = min(n*10+int(digit-'0'), math.MaxUint16+1)
	}
	return uint16(n), n == 0 || !negative && n <= math.MaxUint16
}

// choose sets the family and the address, as package net does: listening on all addresses
// means both IPv4 and IPv6, and connecting to the unspecified address means this host.
func (t *target) choose(op, network, address string, version byte, ip netip.Addr, port uint16, listen bool) error {
	any := !ip.IsValid() || ip.WithZone("").IsUnspecified()
	if any && ip.Is6() && version == '4' {
		ip = netip.IPv4Unspecified() // package net takes [::] for all addresses of any family
	}
	switch {
	case ip.Is4() && version == '6':
		return addressError(op, network, address, "IPv4 address on an IPv6 network")
	case ip.Is6() && version == '4':
		return addressError(op, network, address, "IPv6 address on an IPv4 network")
	}
	if any {
		var err error
		if listen {
			ip, t.ipv6Only, err = listenOnAll(ip, version)
		} else {
			ip, err = thisHost(ip, version)
		}
		if err != nil {
			return &net.OpError{Op: op, Net: network, Err: err}
		}
	}
	if ip.Is6() {
		t.family = inet6
		t.ipv6Only = t.ipv6Only || version == '6'
	}
	t.addrPort = netip.AddrPortFrom(ip, port)
	return nil
}

// listenOnAll returns the address that means all addresses. asked is unspecified or zero.
func listenOnAll(asked netip.Addr, version byte) (ip netip.Addr, ipv6Only bool, err error) {
	if version == '6' {
		return netip.IPv6Unspecified(), true, nil
	}
	if version != '4' {
		both, err := dualStack()
		switch {
		case err != nil:
			return ip, false, err
		case both:
			return netip.IPv6Unspecified(), false, nil
		case asked.Is6(): // OpenBSD and DragonFly have no sockets for both
			return netip.IPv6Unspecified(), true, nil
		}
	}
	return netip.IPv4Unspecified(), false, nil
}

// thisHost returns the address of this host to connect to. asked is unspecified or zero.
func thisHost(asked netip.Addr, version byte) (ip netip.Addr, err error) {
	ipv6 := version == '6'
	if !ipv6 && asked.Is6() {
		ipv6, err = dualStack()
	}
	if ipv6 {
		return netip.IPv6Loopback(), err
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), err
}

// explain adds to err, the error of binding or connecting to t, what the system does not say.
func (t *target) explain(err error) error {
	if t.family != unixDomain {
		return err
	}
	return explainPath(t.path, err)
}

// explainPath is explain for the path of a Unix socket: if it is too long, the error is EINVAL.
func explainPath(path string, err error) error {
	most := pathSize - 1
	if strings.HasPrefix(path, "@") { // Linux: a name, without a NUL at its end
		most = pathSize
	}
	if err == nil || err == errInProgress || len(path) <= most {
		return err
	}
	return fmt.Errorf("path of %d bytes is too long for a Unix socket: at most %d: %w", len(path), most, err)
}
