package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/socket"
)

// reportDestination makes the system report, as control data of the returned size, which of
// its addresses a datagram was sent to: see IP_PKTINFO in ip(7), and ipv6(7).
func reportDestination(c *socket.PacketConn, ipv4 bool) (size int, err error) {
	level, option := unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO // for IPv4-mapped addresses, too
	if ipv4 {
		level, option = unix.IPPROTO_IP, unix.IP_PKTINFO
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := raw.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, option, 1))
	})
	return unix.CmsgSpace(unix.SizeofInet6Pktinfo), errors.Join(failed, err)
}
