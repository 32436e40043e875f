//go:build unix

package socket

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// sockaddrOf returns an address for a socket of the given family.
func sockaddrOf(f family, a netip.AddrPort) unix.Sockaddr {
	if f == inet4 {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), ZoneId: zones.index(a.Addr().Zone()), Addr: a.Addr().As16()}
}

// addrPortOf converts an address of the system; IPv4-mapped ones become IPv4.
func addrPortOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(zones.withZone(netip.AddrFrom16(sa.Addr).Unmap(), sa.ZoneId), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// localAddrPort returns the local address of a TCP or UDP socket.
func localAddrPort(h handle) netip.AddrPort {
	sa, _ := unix.Getsockname(int(h))
	return addrPortOf(sa)
}

func localName(h handle, p proto) net.Addr {
	sa, err := unix.Getsockname(int(h))
	return netAddr(sa, err, p)
}

func remoteName(h handle, p proto) net.Addr {
	sa, err := unix.Getpeername(int(h))
	return netAddr(sa, err, p)
}

// netAddr converts an address to the types of package net.
func netAddr(sa unix.Sockaddr, err error, p proto) net.Addr {
	if err != nil || sa == nil {
		return nil
	}
	if p == otherStream || p == otherDatagrams {
		return otherAddr(sa)
	}
	if sa, ok := sa.(*unix.SockaddrUnix); ok {
		return &net.UnixAddr{Name: sa.Name, Net: p.String()}
	}
	if p == udp {
		return net.UDPAddrFromAddrPort(addrPortOf(sa))
	}
	return net.TCPAddrFromAddrPort(addrPortOf(sa))
}
