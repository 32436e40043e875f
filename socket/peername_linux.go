//go:build !portable

package socket

import (
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lostPeer returns the address of the peer of a TCP connection that was reset, for an error.
// getpeername(2) fails then, but the option SO_PEERNAME still reports the address. The result is
// nil if the socket never had a peer.
func lostPeer(b *base, h handle) net.Addr {
	if b.proto != tcp {
		return nil
	}
	var sa rawSockaddr6
	size := uint32(unix.SizeofSockaddrInet6)
	if b.family == inet4 { // the kernel refuses a size above that of the address
		size = unix.SizeofSockaddrInet4
	}
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(h), unix.SOL_SOCKET, unix.SO_PEERNAME,
		uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil
	}
	return net.TCPAddrFromAddrPort(fromRaw(&sa))
}
