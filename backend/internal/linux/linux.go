//go:build linux

// Package linux is what the queues of Linux share: they are woken through an
// eventfd, learn from epoll_ctl what can be watched, and from SO_COOKIE and
// epoll_ctl whether a descriptor still is the file that was registered.
package linux

import (
	"fmt"
	"math"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// epoll speaks in the bits of poll(2), or this does not compile: see package posix.
var _ = [1]struct{}{}[(unix.EPOLLIN^unix.POLLIN)|(unix.EPOLLOUT^unix.POLLOUT)|(unix.EPOLLPRI^unix.POLLPRI)|
	(unix.EPOLLERR^unix.POLLERR)|(unix.EPOLLHUP^unix.POLLHUP)|(unix.EPOLLRDHUP^unix.POLLRDHUP)]

// Ctl is epoll_ctl(2) without a detour through Go's scheduler: it does not
// block. And without one through x/sys: its RawSyscall6 is a further function, and
// one around a system call costs some 7 ns. Fd and Pad together are the data word of
// an epoll_event on every architecture, whatever the layout around them.
func Ctl(epfd, op int, h backend.Handle, bits uint32, data uint64) unix.Errno {
	if h > math.MaxInt32 {
		return unix.EBADF // the kernel would look at the lower half only
	}
	ev := unix.EpollEvent{Events: bits, Fd: int32(data), Pad: int32(data >> 32)}
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), uintptr(op), uintptr(h),
		uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errno
}

// CtlError translates what epoll_ctl answers. EEXIST and ENOENT already are
// fs.ErrExist and fs.ErrNotExist.
func CtlError(errno unix.Errno) error {
	if errno == 0 { // and no call
		return nil
	}
	return ctlError(errno)
}

func ctlError(errno unix.Errno) error {
	switch errno {
	case unix.EPERM:
		// Left alone it would read as a lack of permission.
		return fmt.Errorf("%w: %w", backend.ErrNotPollable, errno)
	case unix.ENOSPC:
		return ErrTooManyWatches
	case unix.EINVAL:
		return fmt.Errorf("an epoll cannot watch itself, nor another one with Exclusive, and one file can be watched by at most 500 that are themselves watched, as those of parked Polls are: %w", errno)
	}
	return errno
}

// ErrTooManyWatches is what ENOSPC means here.
var ErrTooManyWatches = fmt.Errorf("this user's limit of epoll registrations is reached (sysctl fs.epoll.max_user_watches): %w", unix.ENOSPC)

// Eventfd returns an eventfd to wake a queue with. The queue watches it by
// edges, so it is never read; the counter holds 2^64 wakes.
func Eventfd() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK) }

// Wake writes to an eventfd.
func Wake(fd int) error {
	one := uint64(1)
	if _, _, errno := syscall.RawSyscall6(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one)), 8, 0, 0, 0); errno != 0 {
		return fmt.Errorf("write to the eventfd: %w", errno)
	}
	return nil
}

// OpenError adds to the error of a system call that opens a queue what to do
// about it.
func OpenError(call string, err error) error {
	switch err {
	case unix.ENFILE:
		return fmt.Errorf("%s: the system has no descriptor left (sysctl fs.file-max): %w", call, err)
	case unix.ENOSPC:
		return fmt.Errorf("%s: %w", call, ErrTooManyWatches)
	}
	return fmt.Errorf("%s: %w", call, err)
}
