package tryio

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/raceio"
)

// memory is what the kernel is given pointers to.
type memory struct {
	poll [1]unix.PollFd
	msg  unix.Msghdr
	iov  unix.Iovec
}

// rawMost is how many bytes a raw call transfers at most: see maxRawTransfer in package
// socket.
const rawMost = 64 << 10

// pieceOfPipe is what a pipe that is ready for writing has room for: PIPE_BUF.
const pieceOfPipe = 4096

// receive receives from a socket. It uses recvmsg, which reports whether a datagram was
// truncated. recvfrom reports that only with MSG_TRUNC, which discards the data of a stream.
func (a *attempt) receive(fd uintptr) (n int, truncated bool, err error) {
	a.iov.Base = unsafe.SliceData(a.b)
	a.iov.SetLen(len(a.b))
	a.msg = unix.Msghdr{Iov: &a.iov}
	a.msg.SetIovlen(1)
	for {
		var r uintptr
		var errno syscall.Errno
		if len(a.b) <= rawMost {
			r, _, errno = syscall.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&a.msg)), dontWait)
		} else {
			r, _, errno = syscall.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&a.msg)), dontWait)
		}
		if errno == unix.EINTR {
			continue
		}
		a.iov.Base = nil
		if errno != 0 {
			return 0, false, errno
		}
		raceio.Read(a.b[:r])
		return int(r), a.msg.Flags&unix.MSG_TRUNC != 0, nil
	}
}

// send sends to the peer of a socket.
func (a *attempt) send(fd uintptr, b []byte) (int, error) {
	raceio.Write(b)
	const flags = dontWait | noSignal
	for {
		var r uintptr
		var errno syscall.Errno
		if len(b) <= rawMost {
			r, _, errno = syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		} else {
			r, _, errno = syscall.Syscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		}
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// acceptFD accepts a connection. accept4 has no flag such as MSG_DONTWAIT, so it may wait,
// and tells the scheduler.
func acceptFD(listener uintptr) (int, error) {
	if _, ok := mayAccept(listener); !ok {
		return -1, unix.EAGAIN
	}
	fd, _, errno := syscall.Syscall6(unix.SYS_ACCEPT4, listener, 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
