package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Winsock, without overlapped operations: the sockets do not block, and readiness comes
// from the Polls.

const (
	// rearms says that edges are made by hand: see base.wouldBlock.
	rearms = true
	// inheritsNoDelay says that accepted connections have the option of their listener.
	inheritsNoDelay = false
)

// errAgain is what ErrWouldBlock unwraps to: what every system says, and what Winsock
// does.
var errAgain = fmt.Errorf("%w (%w)", syscall.EAGAIN, windows.WSAEWOULDBLOCK)

var errUnsupported = errors.ErrUnsupported

// The addresses of the kernel: see sockaddr_raw.go.
type (
	rawSockaddr4 = windows.RawSockaddrInet4
	rawSockaddr6 = windows.RawSockaddrInet6
)

const (
	afInet4 = windows.AF_INET
	afInet6 = windows.AF_INET6
)

var procAccept = windows.NewLazySystemDLL("ws2_32.dll").NewProc("accept")

// startup makes Winsock usable, as package net does for itself.
var startup = sync.OnceValue(func() error {
	var data windows.WSAData
	return os.NewSyscallError("WSAStartup", windows.WSAStartup(0x202, &data))
})

// newSocket makes a socket for t, with the flags and options that every one has.
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
		err = setInt(h, windows.IPPROTO_IPV6, windows.IPV6_V6ONLY, t.only6)
	}
	if err == nil && t.proto == udp {
		// Who sends to a port where nobody is would get errors from reading, also of
		// what others send. As in package net, there are none.
		_ = control(h, windows.SIO_UDP_CONNRESET, 0)
	}
	if err != nil {
		return 0, errors.Join(err, closeNew(h))
	}
	return h, nil
}

func domainOf(f family) int32 {
	return [...]int32{inet4: windows.AF_INET, inet6: windows.AF_INET6, local: windows.AF_UNIX}[f]
}

// makeSocket makes a socket that does not block and is not inherited; or another handle
// of one that exists, as it is.
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

// dualStack reports whether a socket can listen for IPv6 and IPv4 both.
var dualStack = sync.OnceValue(func() bool {
	h, err := makeSocket(windows.AF_INET6, windows.SOCK_STREAM, nil)
	if err != nil {
		return false
	}
	defer closeNew(h)
	return setInt(h, windows.IPPROTO_IPV6, windows.IPV6_V6ONLY, false) == nil &&
		windows.Bind(windows.Handle(h), &windows.SockaddrInet6{}) == nil
})

// newPair connects two sockets over the loopback interface: Windows has no socketpair.
// Somebody else who connects in between is not taken for ours.
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

// connectTo connects a to l and returns the other end. On the loopback interface that
// takes no time that is worth an event.
func connectTo(a handle, l *Listener) (b handle, err error) {
	to := sockaddrOf(inet4, l.Addr().(*net.TCPAddr).AddrPort())
	if err := windows.Connect(windows.Handle(a), to); err != nil && err != windows.WSAEWOULDBLOCK {
		return 0, os.NewSyscallError("connect", err)
	}
	for {
		if err := await(l.own().Handle(), pollIn); err != nil {
			return 0, err
		}
		if b, err = sysAccept(l.own().Handle()); err != nil {
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

// await waits for what comes at once.
func await(h handle, events int16) error {
	fd := struct { // WSAPOLLFD
		fd              handle
		events, revents int16
	}{fd: h, events: events}
	const patience = 10_000 // ms
	n, _, err := procWSAPoll.Call(uintptr(unsafe.Pointer(&fd)), 1, patience)
	switch int32(n) {
	case -1:
		return os.NewSyscallError("WSAPoll", err)
	case 0:
		return context.DeadlineExceeded
	}
	return nil
}

// pairProto and pairFamily are what newPair makes.
const (
	pairProto  = tcp
	pairFamily = inet4
)

// closeNew closes what nobody has seen yet.
func closeNew(h handle) error { return windows.Closesocket(windows.Handle(h)) }

// sockaddr is the address of t as the system takes it.
func (t *target) sockaddr() windows.Sockaddr {
	if t.family == local {
		return &windows.SockaddrUnix{Name: t.path}
	}
	return sockaddrOf(t.family, t.addrPort)
}

// sockaddrOf is an address for a socket of the given family.
func sockaddrOf(f family, a netip.AddrPort) windows.Sockaddr {
	if f == inet4 {
		return &windows.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return &windows.SockaddrInet6{Port: int(a.Port()), ZoneId: zones.index(a.Addr().Zone()), Addr: a.Addr().As16()}
}

func bind(h handle, t *target) error {
	return os.NewSyscallError("bind", windows.Bind(windows.Handle(h), t.sockaddr()))
}

func listen(h handle, backlog int) error {
	return os.NewSyscallError("listen", windows.Listen(windows.Handle(h), backlog))
}

// connect begins to connect; errInProgress: it goes on by itself.
func connect(h handle, t *target) error {
	err := windows.Connect(windows.Handle(h), t.sockaddr())
	if err == windows.WSAEWOULDBLOCK {
		return errInProgress
	}
	return os.NewSyscallError("connect", err)
}

// pendingError fetches the error of a connection attempt.
func pendingError(h handle) error {
	const soError = 0x1007
	n, err := windows.GetsockoptInt(windows.Handle(h), windows.SOL_SOCKET, soError)
	switch {
	case err != nil:
		return os.NewSyscallError("getsockopt", err)
	case n == 0:
		return nil
	}
	return os.NewSyscallError("connect", syscall.Errno(n))
}

func isConnected(h handle) bool {
	_, err := windows.Getpeername(windows.Handle(h))
	return err == nil
}

func isNotConnected(err error) bool { return errors.Is(err, windows.WSAENOTCONN) }

func shutdownRead(h handle) error {
	return os.NewSyscallError("shutdown", windows.Shutdown(windows.Handle(h), windows.SHUT_RD))
}

func shutdownWrite(h handle) error {
	return os.NewSyscallError("shutdown", windows.Shutdown(windows.Handle(h), windows.SHUT_WR))
}

// duplicate returns another handle for what h is, for us alone. What h was associated
// with, as the completion port of Go's runtime, the socket stays associated with; but
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
	f := inet4
	switch info.AddressFamily {
	case windows.AF_INET6:
		f = inet6
	case windows.AF_UNIX:
		f = local
	}
	return d, f, nil
}

func localName(h handle, p proto) net.Addr {
	sa, err := windows.Getsockname(windows.Handle(h))
	return netAddr(sa, err, p)
}

func remoteName(h handle, p proto) net.Addr {
	sa, err := windows.Getpeername(windows.Handle(h))
	return netAddr(sa, err, p)
}

// netAddr is an address in the types of package net.
func netAddr(sa windows.Sockaddr, err error, p proto) net.Addr {
	if err != nil {
		return nil
	}
	var a netip.AddrPort
	switch sa := sa.(type) {
	case *windows.SockaddrUnix:
		return &net.UnixAddr{Name: sa.Name, Net: p.String()}
	case *windows.SockaddrInet4:
		a = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *windows.SockaddrInet6:
		a = netip.AddrPortFrom(zones.named(netip.AddrFrom16(sa.Addr).Unmap(), sa.ZoneId), uint16(sa.Port))
	default:
		return nil
	}
	if p == udp {
		return net.UDPAddrFromAddrPort(a)
	}
	return net.TCPAddrFromAddrPort(a)
}

func buffer(b []byte) windows.WSABuf {
	return windows.WSABuf{Len: uint32(len(b)), Buf: unsafe.SliceData(b)}
}

// sysRead reads from a stream; 0 and nil at its end.
func sysRead(h handle, b []byte) (int, error) {
	buf := buffer(b)
	return receive(h, &buf, 1)
}

func receive(h handle, bufs *windows.WSABuf, count int) (int, error) {
	var n, flags uint32
	err := windows.WSARecv(windows.Handle(h), bufs, uint32(count), &n, &flags, nil, nil)
	switch err {
	case nil:
		return int(n), nil
	case windows.WSAEWOULDBLOCK:
		return 0, ErrWouldBlock
	case windows.WSAEMSGSIZE: // of a datagram, the buffers are full
		return int(n), ErrTruncated
	case windows.WSAESHUTDOWN: // reading was shut down here
		return 0, nil
	}
	return 0, os.NewSyscallError("WSARecv", err)
}

// sysWrite writes to a stream.
func sysWrite(h handle, b []byte) (int, error) {
	buf := buffer(b)
	return send(h, &buf, 1)
}

func send(h handle, bufs *windows.WSABuf, count int) (int, error) {
	var n uint32
	err := windows.WSASend(windows.Handle(h), bufs, uint32(count), &n, 0, nil, nil)
	return sent("WSASend", n, err)
}

// sent is the result of writing.
func sent(call string, n uint32, err error) (int, error) {
	switch err {
	case nil:
		return int(n), nil
	case windows.WSAEWOULDBLOCK:
		return 0, ErrWouldBlock
	}
	return 0, os.NewSyscallError(call, err)
}

// wsabufs is the memory for the buffers of one call.
type wsabufs [1024]windows.WSABuf

var wsabufsPool = sync.Pool{New: func() any { return new(wsabufs) }}

// fill takes as many of bufs as there is room for, the empty ones left out, and returns
// how many that are.
func (v *wsabufs) fill(bufs [][]byte) (n int) {
	size := 0
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		if n == len(v) || size == maxTransfer {
			break
		}
		b = b[:min(len(b), maxTransfer-size)]
		v[n] = buffer(b)
		n++
		size += len(b)
	}
	return n
}

// done gives v back; the buffers are not to be kept alive by it.
func (v *wsabufs) done(n int) {
	clear(v[:n])
	wsabufsPool.Put(v)
}

// sysReadBuffers is sysRead into several buffers; wanted: one of them had room.
func sysReadBuffers(h handle, bufs [][]byte) (n int, wanted bool, err error) {
	v := wsabufsPool.Get().(*wsabufs)
	count := v.fill(bufs)
	defer v.done(count)
	if count == 0 {
		return 0, false, nil
	}
	n, err = receive(h, &v[0], count)
	return n, true, err
}

// sysWriteBuffers is sysWrite from several buffers.
func sysWriteBuffers(h handle, bufs [][]byte) (int, error) {
	v := wsabufsPool.Get().(*wsabufs)
	count := v.fill(bufs)
	defer v.done(count)
	return send(h, &v[0], count)
}

// sysAccept accepts one connection.
func sysAccept(h handle) (handle, error) {
	for {
		r, _, err := procAccept.Call(uintptr(h), 0, 0)
		if windows.Handle(r) != windows.InvalidHandle {
			// Not inherited: between these two calls it would be by programs that Go
			// does not start, for Go names the handles that its own get.
			err := windows.SetHandleInformation(windows.Handle(r), windows.HANDLE_FLAG_INHERIT, 0)
			if err == nil {
				err = setNonblock(handle(r))
			}
			if err != nil {
				return 0, errors.Join(os.NewSyscallError("accept", err), closeNew(handle(r)))
			}
			return handle(r), nil
		}
		switch err {
		case windows.WSAEWOULDBLOCK:
			return 0, ErrWouldBlock
		case windows.WSAECONNRESET: // was given up by the peer
		default:
			return 0, os.NewSyscallError("accept", err)
		}
	}
}

// sysReceive receives a datagram.
func sysReceive(h handle, b []byte) (int, error) { return sysRead(h, b) }

// sysSend sends a datagram to where h is connected.
func sysSend(h handle, b []byte) (int, error) { return sysWrite(h, b) }

// sysReceiveFrom is sysReceive, and tells who sent it.
func sysReceiveFrom(h handle, b []byte) (int, netip.AddrPort, error) {
	buf := buffer(b)
	var rsa rawSockaddr6
	size := int32(unsafe.Sizeof(rsa))
	var n, flags uint32
	err := windows.WSARecvFrom(windows.Handle(h), &buf, 1, &n, &flags, (*windows.RawSockaddrAny)(unsafe.Pointer(&rsa)), &size, nil, nil)
	switch err {
	case nil:
		return int(n), fromRaw(&rsa), nil
	case windows.WSAEWOULDBLOCK:
		return 0, netip.AddrPort{}, ErrWouldBlock
	case windows.WSAEMSGSIZE:
		return len(b), fromRaw(&rsa), ErrTruncated
	}
	return 0, netip.AddrPort{}, os.NewSyscallError("WSARecvFrom", err)
}

// sysSendTo sends a datagram from a socket of the given family.
func sysSendTo(h handle, f family, b []byte, to netip.AddrPort) (int, error) {
	buf := buffer(b)
	var rsa rawSockaddr6
	size := toRaw(&rsa, f, to)
	var n uint32
	err := windows.WSASendTo(windows.Handle(h), &buf, 1, &n, 0, (*windows.RawSockaddrAny)(unsafe.Pointer(&rsa)), int32(size), nil, nil)
	return sent("WSASendTo", n, err)
}

// Windows has no datagrams of Unix sockets: there is never one to use these on.

func sysSendToUnix(handle, []byte, string) (int, error) { return 0, errUnsupported }

func sysReceiveFromUnix(handle, []byte) (int, net.Addr, error) { return 0, nil, errUnsupported }
