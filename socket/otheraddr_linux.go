package socket

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// vsockAddr is an address of AF_VSOCK, by which virtual machines and their host talk.
type vsockAddr struct{ cid, port uint32 }

func (vsockAddr) Network() string  { return "vsock" }
func (a vsockAddr) String() string { return fmt.Sprintf("%d:%d", a.cid, a.port) }

// otherAddr converts an address of a family that parse does not know; nil if it cannot.
func otherAddr(sa unix.Sockaddr) net.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrVM:
		return vsockAddr{sa.CID, sa.Port}
	case *unix.SockaddrInet4, *unix.SockaddrInet6: // a raw socket
		a := addrPortOf(sa).Addr()
		return &net.IPAddr{IP: a.AsSlice(), Zone: a.Zone()}
	}
	return nil
}
