package socket

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// buffer describes b to Winsock, whose lengths have 32 bits. A longer datagram is too long for
// every network, so that shortening it does not make it valid.
func buffer(b []byte) windows.WSABuf {
	return windows.WSABuf{Len: uint32(min(uint64(len(b)), math.MaxUint32)), Buf: unsafe.SliceData(b)}
}

// sysRead reads from a stream. It returns 0 and nil at the end of the stream.
func sysRead(h handle, b []byte) (int, error) {
	buf := buffer(b)
	return receive(h, &buf, 1)
}

// maxWrite is how many bytes one system call is asked to write. Winsock may buffer all that it
// gets, however little the send buffer is.
const maxWrite = 1 << 20

func receive(h handle, bufs *windows.WSABuf, count int) (int, error) {
	var n, flags uint32
	err := windows.WSARecv(windows.Handle(h), bufs, uint32(count), &n, &flags, nil, nil)
	switch err {
	case nil:
		return int(n), nil
	case windows.WSAEWOULDBLOCK:
		return 0, ErrWouldBlock
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
	return transferResult("WSASend", int(n), err)
}

// transferResult translates the result of a system call that reads or writes.
func transferResult(call string, n int, err error) (int, error) {
	switch err {
	case nil:
		return n, nil
	case windows.WSAEWOULDBLOCK:
		return 0, ErrWouldBlock
	}
	return 0, os.NewSyscallError(call, err)
}

// wsabufs is the memory in which one call lists its buffers.
type wsabufs [1024]windows.WSABuf

var wsabufsPool = sync.Pool{New: func() any { return new(wsabufs) }}

// fill lists as many of bufs as fit, at most so many bytes and without the empty ones, and
// returns how many it listed.
func (v *wsabufs) fill(bufs [][]byte, most int) (n int) {
	size := 0
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		if n == len(v) || size == most {
			break
		}
		b = b[:min(len(b), most-size)]
		v[n] = buffer(b)
		n++
		size += len(b)
	}
	return n
}

// release returns v to the pool, without keeping its n buffers alive.
func (v *wsabufs) release(n int) {
	clear(v[:n])
	wsabufsPool.Put(v)
}

// sysReadBuffers reads from a stream into several buffers. hasRoom: they are not all empty.
func sysReadBuffers(h handle, bufs [][]byte) (n int, hasRoom bool, err error) {
	v := wsabufsPool.Get().(*wsabufs)
	count := v.fill(bufs, maxTransfer)
	defer v.release(count)
	if count == 0 {
		return 0, false, nil
	}
	n, err = receive(h, &v[0], count)
	return n, true, err
}

// sysWriteBuffers writes several buffers to a stream.
func sysWriteBuffers(h handle, bufs [][]byte) (int, error) {
	v := wsabufsPool.Get().(*wsabufs)
	count := v.fill(bufs, maxWrite)
	defer v.release(count)
	return send(h, &v[0], count)
}

// sysReceive receives a datagram.
func sysReceive(h handle, b []byte) (int, error) {
	n, err := sysRead(h, b)
	if errors.Is(err, windows.WSAEMSGSIZE) {
		return len(b), ErrTruncated // the buffer is full
	}
	return n, err
}

// sysSend sends a datagram to the address that h is connected to.
func sysSend(h handle, b []byte) (int, error) { return sysWrite(h, b) }

// sysReceiveFrom receives a datagram, and returns its sender.
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
	case windows.WSAEMSGSIZE: // the buffer is full
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
	return transferResult("WSASendTo", int(n), err)
}

// Windows has no Unix datagrams, so these are never called for a socket.

func sysSendToUnix(handle, []byte, string) (int, error) { return 0, errUnsupported }

func sysReceiveFromUnix(handle, []byte) (int, net.Addr, error) { return 0, nil, errUnsupported }
