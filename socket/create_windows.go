package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// The sockets use Winsock without overlapped operations: they do not block, and the Polls
// report when they are ready.

// emulatesEdges says that the Polls emulate edges: see base.wouldBlock.
const emulatesEdges = true

// errAgain is what ErrWouldBlock unwraps to: the errno of every system, and that of Winsock.
var errAgain = fmt.Errorf("%w (%w)", syscall.EAGAIN, windows.WSAEWOULDBLOCK)

var errUnsupported = errors.ErrUnsupported

// started says that Winsock is initialized. It counts calls, so that more than one is fine.
var started atomic.Bool

// startup initializes Winsock, as package net does for itself. A failure is not cached: it may
// be for lack of memory.
func startup() error {
	if started.Load() {
		return nil
	}
	var data windows.WSAData
	err := windows.WSAStartup(0x202, &data)
	if err == nil {
		started.Store(true)
	}
	return os.NewSyscallError("WSAStartup", err)
}

// newSocket creates a socket for t, with the flags and options that every socket has.
func newSocket(t *target) (handle, error) {
	kind := int32(windows.SOCK_STREAM)
	if t.proto.datagrams() {
		kind = windows.SOCK_DGRAM
	}
	h, err := makeSocket(domainOf(t.family), kind, nil)
	if err != nil {
		return 0, err
	}
	if t.family == inet6 {
		err = setInt(h, windows.IPPROTO_IPV6, windows.IPV6_V6ONLY, t.ipv6Only)
	}
	if err == nil && t.proto == udp {
		// After a datagram to a closed port, or one whose time to live has expired, reads
		// would fail, also for datagrams of other senders. As in package net, they do not.
		_ = control(h, windows.SIO_UDP_CONNRESET, 0)
		_ = control(h, windows.SIO_UDP_NETRESET, 0)
	}
	if err != nil {
		return 0, errors.Join(err, closeNew(h))
	}
	return h, nil
}

func domainOf(f family) int32 {
	return [...]int32{inet4: windows.AF_INET, inet6: windows.AF_INET6, unixDomain: windows.AF_UNIX}[f]
}

// makeSocket creates a socket that does not block and is not inherited. If of is not nil,
// it returns another handle of the socket that of describes.
func makeSocket(domain, kind int32, of *windows.WSAProtocolInfo) (handle, error) {
	if err := startup(); err != nil {
		return 0, err
	}
	h, err := windows.WSASocket(domain, kind, 0, of, 0, windows.WSA_FLAG_OVERLAPPED|windows.WSA_FLAG_NO_HANDLE_INHERIT)
	if err != nil {
		return 0, os.NewSyscallError("WSASocket", err)
	}
	if err := setNonblock(handle(h)); err != nil {
		return 0, errors.Join(err, closeNew(handle(h)))
	}
	return handle(h), nil
}

func setNonblock(h handle) error {
	const fionbio = 0x8004667e
	return os.NewSyscallError("ioctlsocket", control(h, fionbio, 1))
}

// control is WSAIoctl with a number.
func control(h handle, code, value uint32) error {
	var n uint32
	return windows.WSAIoctl(windows.Handle(h), code, (*byte)(unsafe.Pointer(&value)), 4, nil, 0, &n, nil, 0)
}

// probeDualStack asks the system whether a socket can listen for both IPv6 and IPv4. An error
// means that it cannot tell now.
func probeDualStack() (bool, error) {
	h, err := makeSocket(windows.AF_INET6, windows.SOCK_STREAM, nil)
	switch {
	case errors.Is(err, windows.WSAEMFILE), errors.Is(err, windows.WSAENOBUFS):
		return false, err
	case err != nil: // no IPv6
		return false, nil
	}
	defer closeNew(h)
	return setInt(h, windows.IPPROTO_IPV6, windows.IPV6_V6ONLY, false) == nil &&
		windows.Bind(windows.Handle(h), &windows.SockaddrInet6{}) == nil, nil
}

// pairProto and pairFamily are those of the sockets that newPair creates.
const (
	pairProto  = tcp
	pairFamily = inet4
)

// newPair connects two sockets over the loopback interface: Windows has no socketpair. A
// stranger that connects in between is not mistaken for the other end.
func newPair() (pair [2]handle, err error) {
	a, err := makeSocket(windows.AF_INET, windows.SOCK_STREAM, nil)
	if err != nil {
		return pair, err
	}
	l, err := Listen("tcp4", "127.0.0.1:0", Backlog(8))
	if err != nil {
		return pair, errors.Join(err, closeNew(a))
	}
	defer l.Close()
	b, err := connectTo(a, l)
	if err == nil {
		err = errors.Join(setNoDelay(a, true), setNoDelay(b, true))
	}
	if err != nil {
		return pair, errors.Join(err, closeNew(a))
	}
	return [2]handle{a, b}, nil
}

// connectTo connects a to l and returns the other end. It waits, because connecting over
// the loopback interface takes no noticeable time.
func connectTo(a handle, l *Listener) (b handle, err error) {
	to := sockaddrOf(inet4, l.Addr().(*net.TCPAddr).AddrPort())
	if err := windows.Connect(windows.Handle(a), to); err != nil && err != windows.WSAEWOULDBLOCK {
		return 0, os.NewSyscallError("connect", err)
	}
	for {
		if err := await(l.descriptor().Handle(), pollIn); err != nil {
			return 0, err
		}
		if b, err = sysAccept(l.descriptor().Handle()); err != nil {
			return 0, err
		}
		if err := await(a, pollOut); err != nil {
			return 0, errors.Join(err, closeNew(b))
		}
		if name := localName(a, tcp); name != nil && name.String() == remoteName(b, tcp).String() {
			return b, nil
		}
		_ = closeNew(b)
	}
}

const (
	pollIn  = 0x300
	pollOut = 0x10
)

var procWSAPoll = windows.NewLazySystemDLL("ws2_32.dll").NewProc("WSAPoll")

// await waits until h is ready, which is a matter of moments.
func await(h handle, events int16) error {
	fd := struct { // WSAPOLLFD
		fd              handle
		events, revents int16
	}{fd: h, events: events}
	const timeout = 10_000 // ms
	n, _, err := procWSAPoll.Call(uintptr(unsafe.Pointer(&fd)), 1, timeout)
	switch int32(n) {
	case -1:
		return os.NewSyscallError("WSAPoll", err)
	case 0:
		return context.DeadlineExceeded
	}
	return nil
}

// duplicate returns another handle of h for exclusive use. The socket stays associated
// with what h was associated with, such as the completion port of Go's runtime, but
// operations that are not overlapped post nothing there.
func duplicate(h handle) (handle, family, error) {
	var info windows.WSAProtocolInfo
	if err := windows.WSADuplicateSocket(windows.Handle(h), windows.GetCurrentProcessId(), &info); err != nil {
		return 0, 0, os.NewSyscallError("WSADuplicateSocket", err)
	}
	const fromProtocolInfo = -1
	d, err := makeSocket(fromProtocolInfo, fromProtocolInfo, &info)
	if err != nil {
		return 0, 0, err
	}
	// A socket from a protocol info ignores the flag that it is not inherited.
	if err := windows.SetHandleInformation(windows.Handle(d), windows.HANDLE_FLAG_INHERIT, 0); err != nil {
		return 0, 0, errors.Join(os.NewSyscallError("SetHandleInformation", err), closeNew(d))
	}
	f := inet4
	switch info.AddressFamily {
	case windows.AF_INET6:
		f = inet6
	case windows.AF_UNIX:
		f = unixDomain
	}
	return d, f, nil
}

// closeNew closes a socket that nothing else has seen yet.
func closeNew(h handle) error { return windows.Closesocket(windows.Handle(h)) }
