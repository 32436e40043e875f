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

// Reading and writing on Linux. System calls that do not block are made without telling the
// scheduler, which saves 60 ns each. They are made through package syscall: those of x/sys go
// through one more function, which costs about 7 ns. Its return is probably mispredicted,
// because kernels empty the processor's stack of return addresses.
//
// Every call passes MSG_DONTWAIT. O_NONBLOCK alone is not enough: it belongs to the open file,
// and a program that shares the file can clear it. A raw call that waits stops its processor,
// and the next garbage collection then stops the whole program.
//
// 386 and s390x have these calls under separate numbers since Linux 4.3.

// maxRawTransfer is how many bytes a raw call transfers at most. While a raw call runs,
// nothing else runs on its processor, and the garbage collector may have to wait for it. So a
// larger transfer tells the scheduler, and is hardly slower for it.
const maxRawTransfer = 64 << 10

// recvfrom receives into b. It writes the sender's address to from, if that is not nil.
func recvfrom(h handle, b []byte, flags uintptr, from *rawSockaddr6) (int, error) {
	flags |= receiveFlags
	size := uint32(unsafe.Sizeof(*from))
	psize := &size
	if from == nil {
		psize = nil
	}
	for {
		var n uintptr
		var errno unix.Errno
		if len(b) <= maxRawTransfer {
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

// sendto sends b, to an address of size bytes if that is not nil.
func sendto(h handle, b []byte, to *rawSockaddr6, size uintptr) (int, error) {
	raceWrite(b)
	for {
		var n uintptr
		var errno unix.Errno
		if len(b) <= maxRawTransfer {
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

// sysRead reads from a stream. It returns 0 and nil at the end of the stream.
func sysRead(h handle, b []byte) (int, error) { return recvfrom(h, b, 0, nil) }

// sysWrite writes to a stream.
func sysWrite(h handle, b []byte) (int, error) { return sendto(h, b, nil, 0) }

// sysReceive receives a datagram.
func sysReceive(h handle, b []byte) (int, error) {
	n, err := recvfrom(h, b, unix.MSG_TRUNC, nil) // n is then the datagram's real length
	if n > len(b) {
		return len(b), ErrTruncated
	}
	return n, err
}

// sysSend sends a datagram to the address that h is connected to.
func sysSend(h handle, b []byte) (int, error) { return sendto(h, b, nil, 0) }

// sysReceiveFrom receives a datagram, and returns its sender.
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

// iovecs is the memory in which one call lists its buffers.
type iovecs [1024]unix.Iovec

var iovecsPool = sync.Pool{New: func() any { return new(iovecs) }}

// fill lists as many of bufs as fit, without the empty ones. It returns how many it listed,
// and how many bytes they have.
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

// release returns v to the pool, without keeping its n buffers alive.
func (v *iovecs) release(n int) {
	clear(v[:n])
	iovecsPool.Put(v)
}

// sysReadBuffers reads from a stream into several buffers. hasRoom: they are not all empty.
// It uses recvmsg, because readv takes no flags.
func sysReadBuffers(h handle, bufs [][]byte) (n int, hasRoom bool, err error) {
	v := iovecsPool.Get().(*iovecs)
	count, size := v.fill(bufs)
	defer v.release(count)
	if count == 0 {
		return 0, false, nil
	}
	msg := unix.Msghdr{Iov: &v[0]}
	msg.SetIovlen(count)
	for {
		var n uintptr
		var errno unix.Errno
		if size <= maxRawTransfer {
			n, _, errno = syscall.RawSyscall6(unix.SYS_RECVMSG, uintptr(h), uintptr(unsafe.Pointer(&msg)), receiveFlags, 0, 0, 0)
		} else {
			n, _, errno = syscall.Syscall(unix.SYS_RECVMSG, uintptr(h), uintptr(unsafe.Pointer(&msg)), receiveFlags)
		}
		switch errno {
		case 0:
			raceReadBuffers(bufs, int(n))
			return int(n), true, nil
		case unix.EINTR:
		default:
			n, err := transferResult("recvmsg", 0, errno)
			return n, true, err
		}
	}
}

// sysWriteBuffers writes several buffers to a stream. It uses sendmsg, because writev takes
// no flags.
func sysWriteBuffers(h handle, bufs [][]byte) (int, error) {
	v := iovecsPool.Get().(*iovecs)
	count, size := v.fill(bufs)
	defer v.release(count)
	raceWriteBuffers(bufs)
	msg := unix.Msghdr{Iov: &v[0]}
	msg.SetIovlen(count)
	for {
		var n uintptr
		var errno unix.Errno
		if size <= maxRawTransfer {
			n, _, errno = syscall.RawSyscall6(unix.SYS_SENDMSG, uintptr(h), uintptr(unsafe.Pointer(&msg)), sendFlags, 0, 0, 0)
		} else {
			n, _, errno = syscall.Syscall(unix.SYS_SENDMSG, uintptr(h), uintptr(unsafe.Pointer(&msg)), sendFlags)
		}
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return transferResult("sendmsg", 0, errno)
		}
	}
}
