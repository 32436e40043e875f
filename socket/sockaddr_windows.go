package socket

import (
	"net"
	"net/netip"

	"golang.org/x/sys/windows"
)

// The kernel's socket addresses: see sockaddr_raw.go.
type (
	rawSockaddr4 = windows.RawSockaddrInet4
	rawSockaddr6 = windows.RawSockaddrInet6
)

const (
	afInet4 = windows.AF_INET
	afInet6 = windows.AF_INET6
)

// sockaddr returns the address of t in the form that system calls take.
func (t *target) sockaddr() windows.Sockaddr {
	if t.family == unixDomain {
		return &windows.SockaddrUnix{Name: t.path}
	}
	return sockaddrOf(t.family, t.addrPort)
}

// sockaddrOf returns an address for a socket of the given family.
func sockaddrOf(f family, a netip.AddrPort) windows.Sockaddr {
	if f == inet4 {
		return &windows.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return &windows.SockaddrInet6{Port: int(a.Port()), ZoneId: zones.index(a.Addr().Zone()), Addr: a.Addr().As16()}
}

// localAddrPort returns the local address of a TCP or UDP socket.
func localAddrPort(h handle) netip.AddrPort {
	sa, _ := windows.Getsockname(windows.Handle(h))
	return addrPortOf(sa)
}

// addrPortOf converts an address of the system; IPv4-mapped ones become IPv4.
func addrPortOf(sa windows.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *windows.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *windows.SockaddrInet6:
		return netip.AddrPortFrom(zones.withZone(netip.AddrFrom16(sa.Addr).Unmap(), sa.ZoneId), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func localName(h handle, p proto) net.Addr {
	sa, err := windows.Getsockname(windows.Handle(h))
	return netAddr(sa, err, p)
}

func remoteName(h handle, p proto) net.Addr {
	sa, err := windows.Getpeername(windows.Handle(h))
	return netAddr(sa, err, p)
}

// netAddr converts an address to the types of package net.
func netAddr(sa windows.Sockaddr, err error, p proto) net.Addr {
	if err != nil {
		return nil
	}
	if sa, ok := sa.(*windows.SockaddrUnix); ok {
		return &net.UnixAddr{Name: sa.Name, Net: p.String()}
	}
	a := addrPortOf(sa)
	switch {
	case !a.IsValid():
		return nil
	case p == udp:
		return net.UDPAddrFromAddrPort(a)
	}
	return net.TCPAddrFromAddrPort(a)
}
