//go:build unix

package socket

import (
	"errors"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// emulatesEdges says that the Polls emulate edges: see base.wouldBlock.
const emulatesEdges = false

// errAgain is what ErrWouldBlock unwraps to.
const errAgain = syscall.EAGAIN

var errUnsupported = errors.ErrUnsupported

// newSocket creates a socket for t, with the flags and options that every socket has.
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
		err = setInt(handle(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, t.ipv6Only)
		if !t.ipv6Only && !t.addrPort.Addr().IsUnspecified() {
			err = nil // it does not matter for a single address; OpenBSD refuses
		}
	}
	if err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return handle(fd), nil
}

func domainOf(f family) int {
	return [...]int{inet4: unix.AF_INET, inet6: unix.AF_INET6, unixDomain: unix.AF_UNIX}[f]
}

// probeDualStack asks the system whether a socket can listen for both IPv6 and IPv4. An error
// means that it cannot tell now.
func probeDualStack() (bool, error) {
	fd, err := makeSocket(unix.AF_INET6, unix.SOCK_STREAM)
	switch err {
	case nil:
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		return false, os.NewSyscallError("socket", err)
	default: // no IPv6
		return false, nil
	}
	defer unix.Close(fd)
	mapped := netip.AddrFrom16(netip.MustParseAddr("127.0.0.1").As16())
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0) == nil &&
		unix.Bind(fd, &unix.SockaddrInet6{Addr: mapped.As16()}) == nil, nil
}

// pairProto and pairFamily are those of the sockets that newPair creates.
const (
	pairProto  = unixStream
	pairFamily = unixDomain
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

// duplicate returns another descriptor of h for exclusive use.
func duplicate(h handle) (handle, family, error) {
	fd, err := makeDuplicate(int(h))
	if err != nil {
		return 0, 0, os.NewSyscallError("fcntl", err)
	}
	f, err := familyOf(fd)
	if err == nil {
		err = unix.SetNonblock(fd, true) // the caller may have made it blocking
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
		return unixDomain, err
	}
	return inet4, os.NewSyscallError("getsockname", err)
}

// closeNew closes a descriptor that nothing else has seen yet.
func closeNew(h handle) error { return unix.Close(int(h)) }
