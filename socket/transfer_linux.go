//go:build !portable

package socket

import (
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The hot paths of Linux: system calls that do not block are made without telling the
// scheduler, which spares 60 ns each; and by package syscall, since those of x/sys go through
// one function more, which costs some 7 ns: its return is probably mispredicted, since kernels
// empty the processor's stack of return addresses.
//
// On 386 and s390x these calls have numbers of their own since Linux 4.3.

// The addresses of the kernel: see sockaddr_raw.go.
type (
	rawSockaddr4 = unix.RawSockaddrInet4
	rawSockaddr6 = unix.RawSockaddrInet6
)

const (
	afInet4 = unix.AF_INET
	afInet6 = unix.AF_INET6
)

// rawMost is how many bytes a raw call transfers at most. While it runs nothing else
// runs on its processor, and the garbage collector may have to wait for it; so what takes
// longer tells the scheduler, and is hardly slower for it.
const rawMost = 64 << 10

// inheritsNoDelay says that accepted connections have the option of their listener.
const inheritsNoDelay = true

// recvfrom receives into b; who sent it, into from, if that is not nil.
func recvfrom(h handle, b []byte, flags uintptr, from *rawSockaddr6) (int, error) {
	size := uint32(unsafe.Sizeof(*from))
	psize := &size
	if from == nil {
		psize = nil
	}
	for {
		var n uintptr
		var errno unix.Errno
		if len(b) <= rawMost {
			n, _, errno = syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(h), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
				flags, uintptr(unsafe.Pointer(from)), uintptr(unsafe.Pointer(psize)))
		} else {
			n, _, errno = syscall.Syscall6(unix.SYS_RECVFROM, uintptr(h), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
				flags, uintptr(unsafe.Pointer(from)), uintptr(unsafe.Pointer(psize)))
		}
		switch errno {
		case 0:
			raceRead(b[:min(int(n), len(b))])
			return int(n), nil
		case unix.EAGAIN:
			return 0, ErrWouldBlock
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError("recvfrom", errno)
		}
	}
}

// sendto sends b; to an address of size bytes, if that is not nil.
func sendto(h handle, b []byte, to *rawSockaddr6, size uintptr) (int, error) {
	raceWrite(b)
	for {
		var n uintptr
		var errno unix.Errno
		if len(b) <= rawMost {
			n, _, errno = syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(h), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
				sendFlags, uintptr(unsafe.Pointer(to)), size)
		} else {
			n, _, errno = syscall.Syscall6(unix.SYS_SENDTO, uintptr(h), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
				sendFlags, uintptr(unsafe.Pointer(to)), size)
		}
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			return 0, ErrWouldBlock
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError("sendto", errno)
		}
	}
}

// received is the result of reading.
func received(call string, n int, errno unix.Errno) (int, error) {
	switch errno {
	case 0:
		return n, nil
	case unix.EAGAIN:
		return 0, ErrWouldBlock
	}
	return 0, os.NewSyscallError(call, errno)
}

// sysRead reads from a stream; 0 and nil at its end.
func sysRead(h handle, b []byte) (int, error) { return recvfrom(h, b, 0, nil) }

// sysWrite writes to a stream.
func sysWrite(h handle, b []byte) (int, error) { return sendto(h, b, nil, 0) }

// sysReceive receives a datagram.
func sysReceive(h handle, b []byte) (int, error) {
	n, err := recvfrom(h, b, unix.MSG_TRUNC, nil) // n is then how long it really was
	if n > len(b) {
		return len(b), ErrTruncated
	}
	return n, err
}

// sysSend sends a datagram to where h is connected.
func sysSend(h handle, b []byte) (int, error) { return sendto(h, b, nil, 0) }

// sysReceiveFrom is sysReceive, and tells who sent it.
func sysReceiveFrom(h handle, b []byte) (n int, from netip.AddrPort, err error) {
	var rsa rawSockaddr6
	if n, err = recvfrom(h, b, unix.MSG_TRUNC, &rsa); err != nil {
		return 0, from, err
	}
	from = fromRaw(&rsa)
	if n > len(b) {
		return len(b), from, ErrTruncated
	}
	return n, from, nil
}

// sysSendTo sends a datagram from a socket of the given family.
func sysSendTo(h handle, f family, b []byte, to netip.AddrPort) (int, error) {
	var rsa rawSockaddr6
	size := toRaw(&rsa, f, to)
	return sendto(h, b, &rsa, size)
}

// iovecs is the memory for the buffers of one call.
type iovecs [1024]unix.Iovec

var iovecsPool = sync.Pool{New: func() any { return new(iovecs) }}

// fill takes as many of bufs as there is room for, the empty ones left out, and returns
// how many that are, of how many bytes.
func (v *iovecs) fill(bufs [][]byte) (n, size int) {
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		if n == len(v) || size == maxTransfer {
			break
		}
		b = b[:min(len(b), maxTransfer-size)]
		v[n].Base = unsafe.SliceData(b)
		v[n].SetLen(len(b))
		n++
		size += len(b)
	}
	return n, size
}

// done gives v back; the buffers are not to be kept alive by it.
func (v *iovecs) done(n int) {
	clear(v[:n])
	iovecsPool.Put(v)
}

// sysReadBuffers is sysRead into several buffers; wanted: one of them had room.
func sysReadBuffers(h handle, bufs [][]byte) (n int, wanted bool, err error) {
	v := iovecsPool.Get().(*iovecs)
	count, size := v.fill(bufs)
	defer v.done(count)
	if count == 0 {
		return 0, false, nil
	}
	for {
		var n uintptr
		var errno unix.Errno
		if size <= rawMost {
			n, _, errno = syscall.RawSyscall6(unix.SYS_READV, uintptr(h), uintptr(unsafe.Pointer(v)), uintptr(count), 0, 0, 0)
		} else {
			n, _, errno = syscall.Syscall(unix.SYS_READV, uintptr(h), uintptr(unsafe.Pointer(v)), uintptr(count))
		}
		if errno != unix.EINTR {
			if errno == 0 {
				raceReadBuffers(bufs, int(n))
			}
			n, err := received("readv", int(n), errno)
			return n, true, err
		}
	}
}

// sysWriteBuffers is sysWrite from several buffers. It is sendmsg, since writev takes no
// flags.
func sysWriteBuffers(h handle, bufs [][]byte) (int, error) {
	v := iovecsPool.Get().(*iovecs)
	count, size := v.fill(bufs)
	defer v.done(count)
	raceWriteBuffers(bufs)
	msg := unix.Msghdr{Iov: &v[0]}
	msg.SetIovlen(count)
	for {
		var n uintptr
		var errno unix.Errno
		if size <= rawMost {
			n, _, errno = syscall.RawSyscall6(unix.SYS_SENDMSG, uintptr(h), uintptr(unsafe.Pointer(&msg)), sendFlags, 0, 0, 0)
		} else {
			n, _, errno = syscall.Syscall(unix.SYS_SENDMSG, uintptr(h), uintptr(unsafe.Pointer(&msg)), sendFlags)
		}
		if errno != unix.EINTR {
			return received("sendmsg", int(n), errno)
		}
	}
}

// sysAccept accepts one connection.
func sysAccept(h handle) (handle, error) {
	for {
		fd, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(h), 0, 0, newFlags, 0, 0)
		switch errno {
		case 0:
			return handle(fd), nil
		case unix.EAGAIN:
			return 0, ErrWouldBlock
		case unix.EINTR, unix.ECONNABORTED: // the latter was given up by the peer
		default:
			return 0, os.NewSyscallError("accept4", errno)
		}
	}
}
