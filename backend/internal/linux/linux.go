//go:build linux

// Package linux has what the queues of Linux share: the eventfd that wakes them,
// epoll_ctl and the meaning of its errors, and the identities of registered files.
package linux

import (
	"fmt"
	"math"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// epoll uses the bits of poll(2), or this does not compile: see package posix.
var _ = [1]struct{}{}[(unix.EPOLLIN^unix.POLLIN)|(unix.EPOLLOUT^unix.POLLOUT)|(unix.EPOLLPRI^unix.POLLPRI)|
	(unix.EPOLLERR^unix.POLLERR)|(unix.EPOLLHUP^unix.POLLHUP)|(unix.EPOLLRDHUP^unix.POLLRDHUP)]

// Ctl calls epoll_ctl(2). The call does not block, so it bypasses Go's scheduler. It also
// bypasses x/sys, whose RawSyscall6 is one more function around the system call, which
// costs about 7 ns. Fd and Pad together are the data word of an epoll_event on every
// architecture, whatever the layout around them.
func Ctl(epfd, op int, h backend.Handle, bits uint32, data uint64) unix.Errno {
	if h > math.MaxInt32 {
		return unix.EBADF // the kernel ignores the upper half
	}
	ev := unix.EpollEvent{Events: bits, Fd: int32(data), Pad: int32(data >> 32)}
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), uintptr(op), uintptr(h),
		uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errno
}

// CtlAnnounced is Ctl for a call that may wait: it tells Go's scheduler.
func CtlAnnounced(epfd, op int, h backend.Handle, bits uint32, data uint64) unix.Errno {
	if h > math.MaxInt32 {
		return unix.EBADF
	}
	ev := unix.EpollEvent{Events: bits, Fd: int32(data), Pad: int32(data >> 32)}
	_, _, errno := syscall.Syscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), uintptr(op), uintptr(h),
		uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errno
}

// CtlError translates an errno of epoll_ctl into an error, 0 into nil. EEXIST and ENOENT
// already are fs.ErrExist and fs.ErrNotExist.
func CtlError(errno unix.Errno) error {
	if errno == 0 { // the usual case is small enough to be inlined
		return nil
	}
	return ctlError(errno)
}

func ctlError(errno unix.Errno) error {
	switch errno {
	case unix.EPERM:
		// Unexplained, it would read as a lack of permission.
		return fmt.Errorf("%w: %w", backend.ErrNotPollable, errno)
	case unix.ENOSPC:
		return ErrTooManyWatches
	case unix.EINVAL:
		return fmt.Errorf("an epoll instance cannot watch itself, nor another one with Exclusive, and at most 500 epoll instances that are themselves watched, as those of parked Polls are, can watch one file: %w", errno)
	}
	return errno
}

// ErrTooManyWatches is the meaning of ENOSPC from epoll_ctl.
var ErrTooManyWatches = fmt.Errorf("limit of epoll registrations of this user reached: raise it with sysctl fs.epoll.max_user_watches: %w", unix.ENOSPC)

// Eventfd returns an eventfd to wake a queue with. The queue watches it edge-triggered, so
// it is never read; its counter holds 2^64 wakes.
func Eventfd() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK) }

// Wake adds one to an eventfd.
func Wake(fd int) error {
	one := uint64(1)
	if _, _, errno := syscall.RawSyscall6(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one)), 8, 0, 0, 0); errno != 0 {
		return fmt.Errorf("write to the eventfd: %w", errno)
	}
	return nil
}

// OpenError adds to the error of a system call that opens a queue what to do about it.
func OpenError(call string, err error) error {
	switch err {
	case unix.ENFILE:
		return fmt.Errorf("%s: limit of open files of the system reached: raise it with sysctl fs.file-max: %w", call, err)
	case unix.ENOSPC:
		return fmt.Errorf("%s: %w", call, ErrTooManyWatches)
	}
	return fmt.Errorf("%s: %w", call, err)
}
