//go:build (linux && !portable) || windows

package socket

import (
	"net/netip"
	"unsafe"
)

// The addresses of datagrams are converted without an allocation: they are read and written
// in the kernel's own layout, in memory for an IPv6 address, where an IPv4 address fits too.

// fromRaw converts an address that the kernel has written; IPv4-mapped ones become IPv4.
func fromRaw(rsa *rawSockaddr6) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&rsa.Port))
	p := uint16(port[0])<<8 | uint16(port[1])
	switch rsa.Family {
	case afInet4:
		return netip.AddrPortFrom(netip.AddrFrom4((*rawSockaddr4)(unsafe.Pointer(rsa)).Addr), p)
	case afInet6:
		return netip.AddrPortFrom(zones.withZone(netip.AddrFrom16(rsa.Addr).Unmap(), rsa.Scope_id), p)
	}
	return netip.AddrPort{}
}

// toRaw writes an address for the kernel and returns its size.
func toRaw(rsa *rawSockaddr6, f family, a netip.AddrPort) uintptr {
	port := (*[2]byte)(unsafe.Pointer(&rsa.Port))
	port[0], port[1] = byte(a.Port()>>8), byte(a.Port())
	if f == inet4 {
		rsa.Family = afInet4
		rsa4 := (*rawSockaddr4)(unsafe.Pointer(rsa))
		rsa4.Addr = a.Addr().Unmap().As4()
		return unsafe.Sizeof(*rsa4)
	}
	rsa.Family = afInet6
	rsa.Addr = a.Addr().As16()
	rsa.Scope_id = zones.index(a.Addr().Zone())
	return unsafe.Sizeof(*rsa)
}
