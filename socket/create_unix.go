//go:build unix

package socket

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// What is the same on every Unix, and is not done for every message.

const (
	// rearms says that edges are made by hand: see base.wouldBlock.
	rearms = false

	errAgain = syscall.EAGAIN
)

var errUnsupported = errors.ErrUnsupported

// again calls f for as long as a signal interrupts it.
func again(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// newSocket makes a socket for t, with the flags and options that every one has.
func newSocket(t *target) (handle, error) {
	domain, kind := domainOf(t.family), unix.SOCK_STREAM
	if t.proto.datagrams() {
		kind = unix.SOCK_DGRAM
	}
	fd, err := makeSocket(domain, kind)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	err = os.NewSyscallError("setsockopt", setNoSignal(fd))
	if err == nil && t.family == inet6 {
		err = setInt(handle(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, t.only6)
		if !t.only6 && !t.addrPort.Addr().IsUnspecified() {
			err = nil // it has one address anyway; OpenBSD refuses
		}
	}
	if err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return handle(fd), nil
}

func domainOf(f family) int {
	return [...]int{inet4: unix.AF_INET, inet6: unix.AF_INET6, local: unix.AF_UNIX}[f]
}

// dualStack reports whether a socket can listen for IPv6 and IPv4 both.
var dualStack = sync.OnceValue(func() bool {
	fd, err := makeSocket(unix.AF_INET6, unix.SOCK_STREAM)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	mapped := netip.AddrFrom16(netip.MustParseAddr("127.0.0.1").As16())
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0) == nil &&
		unix.Bind(fd, &unix.SockaddrInet6{Addr: mapped.As16()}) == nil
})

// pairProto and pairFamily are what newPair makes.
const (
	pairProto  = unixStream
	pairFamily = local
)

func newPair() ([2]handle, error) {
	fds, err := makePair()
	if err != nil {
		return [2]handle{}, os.NewSyscallError("socketpair", err)
	}
	for _, fd := range fds {
		if err := setNoSignal(fd); err != nil {
			return [2]handle{}, errors.Join(os.NewSyscallError("setsockopt", err), unix.Close(fds[0]), unix.Close(fds[1]))
		}
	}
	return [2]handle{handle(fds[0]), handle(fds[1])}, nil
}

// closeNew closes what nobody has seen yet.
func closeNew(h handle) error { return unix.Close(int(h)) }

// sockaddr is the address of t as the system takes it.
func (t *target) sockaddr() unix.Sockaddr {
	if t.family == local {
		return &unix.SockaddrUnix{Name: t.path}
	}
	return sockaddrOf(t.family, t.addrPort)
}

// sockaddrOf is an address for a socket of the given family.
func sockaddrOf(f family, a netip.AddrPort) unix.Sockaddr {
	if f == inet4 {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), ZoneId: zones.index(a.Addr().Zone()), Addr: a.Addr().As16()}
}

// addrPortOf is what the system says, IPv4 unmapped.
func addrPortOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(zones.named(netip.AddrFrom16(sa.Addr).Unmap(), sa.ZoneId), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func bind(h handle, t *target) error {
	return os.NewSyscallError("bind", unix.Bind(int(h), t.sockaddr()))
}

func listen(h handle, backlog int) error {
	return os.NewSyscallError("listen", unix.Listen(int(h), backlog))
}

// connect begins to connect; errInProgress: it goes on by itself.
func connect(h handle, t *target) error {
	err := unix.Connect(int(h), t.sockaddr())
	switch err {
	case unix.EINPROGRESS, unix.EALREADY, unix.EINTR: // interrupted, it goes on as well
		return errInProgress
	}
	return os.NewSyscallError("connect", err)
}

// pendingError fetches the error of a connection attempt.
func pendingError(h handle) error {
	n, err := unix.GetsockoptInt(int(h), unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return os.NewSyscallError("getsockopt", err)
	case n == 0, syscall.Errno(n) == unix.EINPROGRESS:
		return nil
	}
	return os.NewSyscallError("connect", syscall.Errno(n))
}

func isConnected(h handle) bool {
	_, err := unix.Getpeername(int(h))
	return err == nil
}

func isNotConnected(err error) bool { return errors.Is(err, unix.ENOTCONN) }

func shutdownRead(h handle) error {
	return os.NewSyscallError("shutdown", unix.Shutdown(int(h), unix.SHUT_RD))
}

func shutdownWrite(h handle) error {
	return os.NewSyscallError("shutdown", unix.Shutdown(int(h), unix.SHUT_WR))
}

// duplicate returns another descriptor for what h is, for us alone.
func duplicate(h handle) (handle, family, error) {
	fd, err := makeDuplicate(int(h))
	if err != nil {
		return 0, 0, os.NewSyscallError("fcntl", err)
	}
	f, err := familyOf(fd)
	if err == nil {
		err = unix.SetNonblock(fd, true) // somebody may have made it block
	}
	if err == nil {
		err = setNoSignal(fd)
	}
	if err != nil {
		return 0, 0, errors.Join(err, unix.Close(fd))
	}
	return handle(fd), f, nil
}

func familyOf(fd int) (family, error) {
	sa, err := unix.Getsockname(fd)
	switch sa.(type) {
	case *unix.SockaddrInet6:
		return inet6, err
	case *unix.SockaddrUnix:
		return local, err
	}
	return inet4, os.NewSyscallError("getsockname", err)
}

func localName(h handle, p proto) net.Addr {
	sa, err := unix.Getsockname(int(h))
	return netAddr(sa, err, p)
}

func remoteName(h handle, p proto) net.Addr {
	sa, err := unix.Getpeername(int(h))
	return netAddr(sa, err, p)
}

// netAddr is an address in the types of package net.
func netAddr(sa unix.Sockaddr, err error, p proto) net.Addr {
	if err != nil || sa == nil {
		return nil
	}
	if sa, ok := sa.(*unix.SockaddrUnix); ok {
		return &net.UnixAddr{Name: sa.Name, Net: p.String()}
	}
	if p == udp {
		return net.UDPAddrFromAddrPort(addrPortOf(sa))
	}
	return net.TCPAddrFromAddrPort(addrPortOf(sa))
}

// sysReceiveFromUnix receives a datagram of a Unix socket.
func sysReceiveFromUnix(h handle, b []byte) (n int, from net.Addr, err error) {
	n, sa, err := receiveMessage(h, b)
	if sa, ok := sa.(*unix.SockaddrUnix); ok && sa.Name != "" {
		from = &net.UnixAddr{Name: sa.Name, Net: unixDatagram.String()}
	}
	return n, from, err
}

// receiveMessage receives a datagram in the way that every Unix has.
func receiveMessage(h handle, b []byte) (n int, from unix.Sockaddr, err error) {
	flags := 0
	err = again(func() (err error) {
		n, _, flags, from, err = unix.Recvmsg(int(h), b, nil, 0)
		return err
	})
	switch {
	case err == unix.EAGAIN:
		return 0, nil, ErrWouldBlock
	case err != nil:
		return 0, nil, os.NewSyscallError("recvmsg", err)
	case flags&unix.MSG_TRUNC != 0:
		err = ErrTruncated
	}
	return n, from, err
}

// sysSendToUnix sends a datagram to the Unix socket at path.
func sysSendToUnix(h handle, b []byte, path string) (int, error) {
	return sendMessage(h, b, &unix.SockaddrUnix{Name: path})
}

// sendMessage sends b in the way that every Unix has; to may be nil.
func sendMessage(h handle, b []byte, to unix.Sockaddr) (n int, err error) {
	err = again(func() (err error) {
		n, err = unix.SendmsgN(int(h), b, nil, to, sendFlags)
		return err
	})
	return sent("sendmsg", n, err)
}

// sent is the result of writing.
func sent(call string, n int, err error) (int, error) {
	switch err {
	case nil:
		return n, nil
	case unix.EAGAIN:
		return 0, ErrWouldBlock
	}
	return 0, os.NewSyscallError(call, err)
}
