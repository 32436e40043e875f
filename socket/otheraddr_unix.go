//go:build unix && !linux

package socket

import (
	"net"

	"golang.org/x/sys/unix"
)

// otherAddr converts an address of a family that parse does not know; nil if it cannot.
func otherAddr(sa unix.Sockaddr) net.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4, *unix.SockaddrInet6: // a raw socket
		a := addrPortOf(sa).Addr()
		return &net.IPAddr{IP: a.AsSlice(), Zone: a.Zone()}
	}
	return nil
}
