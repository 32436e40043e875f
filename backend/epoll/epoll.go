//go:build linux

package epoll

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// Epoll is an epoll instance and the eventfd that wakes it.
type Epoll struct {
	open   bool
	epfd   int
	wakefd int
	buf    []unix.EpollEvent // what the kernel writes into; belongs to Wait

	// nanoseconds says that epoll_pwait2 is there.
	nanoseconds bool
	// timespec is the timeout of the wait in progress, as epoll_pwait2 takes it:
	// a struct __kernel_timespec, two 64-bit words on every architecture (which
	// unix.Timespec is not).
	timespec [2]int64
}

// New returns an epoll queue that is not open yet: epore.NewWith opens it.
func New() *Epoll { return new(Epoll) }

var (
	_ backend.Backend  = (*Epoll)(nil)
	_ backend.Pollable = (*Epoll)(nil)
)

// Name implements [backend.Backend].
func (e *Epoll) Name() string { return "epoll" }

// Open implements [backend.Backend].
func (e *Epoll) Open(backend.Config) error {
	if e.open {
		return fmt.Errorf("it is open already, and serves one Poll: %w", unix.EBUSY)
	}
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return openError("epoll_create1", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return openError("eventfd", err)
	}
	// Edge-triggered, the eventfd need never be read: each write is an edge, and
	// the counter does not overflow within 2^64 wakes. Its key is zero.
	if err := ctl(epfd, unix.EPOLL_CTL_ADD, backend.Handle(wakefd), unix.EPOLLIN|unix.EPOLLET, 0); err != 0 {
		unix.Close(wakefd)
		unix.Close(epfd)
		return openError("epoll_ctl of the eventfd", err)
	}
	e.open, e.epfd, e.wakefd = true, epfd, wakefd
	e.grow(1)
	// Asked, not derived from a version: seccomp filters refuse it too, with
	// EPERM or ENOSYS, on kernels that have it.
	_, errno := e.pwait2(1, 0)
	e.nanoseconds = errno == 0
	return nil
}

// openError adds to the errno of a failed system call what to do about it.
func openError(call string, err error) error {
	switch {
	case errors.Is(err, unix.ENFILE):
		return fmt.Errorf("%s: the system has no descriptor left (sysctl fs.file-max): %w", call, err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%s: %w", call, errTooManyWatches)
	}
	return fmt.Errorf("%s: %w", call, err)
}

var errTooManyWatches = fmt.Errorf("this user's limit of epoll registrations is reached (sysctl fs.epoll.max_user_watches): %w", unix.ENOSPC)

// Capabilities implements [backend.Backend].
func (e *Epoll) Capabilities() backend.Capabilities {
	resolution := time.Millisecond
	if e.nanoseconds {
		resolution = time.Nanosecond
	}
	return backend.Capabilities{
		Interests: backend.Readable | backend.Writable | backend.Priority |
			backend.Edge | backend.OneShot | backend.Exclusive,
		Resolution: resolution,
	}
}

// Descriptor implements [backend.Pollable].
func (e *Epoll) Descriptor() int { return e.epfd }

// Add implements [backend.Backend].
func (e *Epoll) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	bits, err := kernelBits(in)
	if err != nil {
		return err
	}
	return changeError(e.ctl(unix.EPOLL_CTL_ADD, h, bits, k))
}

// Modify implements [backend.Backend].
func (e *Epoll) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	bits, err := kernelBits(in)
	if err != nil {
		return err
	}
	if !in.Has(backend.Exclusive) {
		errno := e.ctl(unix.EPOLL_CTL_MOD, h, bits, k)
		if errno != unix.EINVAL {
			return changeError(errno)
		}
	}
	// The kernel refuses to modify to or from EPOLLEXCLUSIVE, so that takes two
	// calls. Nothing is lost between them: adding reports what is ready now.
	if errno := e.ctl(unix.EPOLL_CTL_DEL, h, 0, 0); errno != 0 {
		return changeError(errno)
	}
	if errno := e.ctl(unix.EPOLL_CTL_ADD, h, bits, k); errno != 0 {
		return fmt.Errorf("%w: %w", backend.ErrLost, changeError(errno))
	}
	return nil
}

// Delete implements [backend.Backend].
func (e *Epoll) Delete(h backend.Handle) error {
	return changeError(e.ctl(unix.EPOLL_CTL_DEL, h, 0, 0))
}

// Wait implements [backend.Backend].
func (e *Epoll) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	e.grow(len(dst))
	out := 0
	for {
		room := min(len(dst)-out, maxEvents)
		n, errno := e.wait(room, timeout)
		if errno != 0 {
			if out > 0 {
				return out, nil
			}
			return 0, errno
		}
		woken := false
		for i := range e.buf[:n] {
			ev := &e.buf[i]
			key := keyOf(ev)
			if key == 0 {
				woken = true
				continue
			}
			dst[out] = backend.Event{Key: key, Ready: readiness(ev.Events)}
			out++
		}
		if !woken || n < room {
			return out, nil
		}
		// The eventfd took the place of an event; less than what there is room
		// for would say that nothing more is ready.
		timeout = 0
	}
}

// maxEvents is what the kernel takes for maxevents: EP_MAX_EVENTS of
// fs/eventpoll.c, with the larger of the two layouts of epoll_event.
const maxEvents = math.MaxInt32 / 16

// grow makes room for n kernel events.
func (e *Epoll) grow(n int) {
	if n > len(e.buf) {
		e.buf = make([]unix.EpollEvent, min(n, maxEvents))
	}
}

// wait is the system call: raw when it cannot block, and announced to the
// scheduler when it can.
func (e *Epoll) wait(room int, timeout time.Duration) (int, unix.Errno) {
	if timeout == 0 {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.epfd),
			uintptr(unsafe.Pointer(&e.buf[0])), uintptr(room), 0, 0, 0)
		return int(n), errno
	}
	if e.nanoseconds {
		return e.pwait2(room, timeout)
	}
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.epfd),
		uintptr(unsafe.Pointer(&e.buf[0])), uintptr(room), uintptr(milliseconds(timeout)), 0, 0)
	return int(n), errno
}

// pwait2 waits by epoll_pwait2, whose timeout has nanoseconds.
func (e *Epoll) pwait2(room int, timeout time.Duration) (int, unix.Errno) {
	var ts *[2]int64 // none: for ever
	if timeout >= 0 {
		e.timespec = [2]int64{int64(timeout / time.Second), int64(timeout % time.Second)}
		ts = &e.timespec
	}
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(e.epfd),
		uintptr(unsafe.Pointer(&e.buf[0])), uintptr(room), uintptr(unsafe.Pointer(ts)), 0, 0)
	return int(n), errno
}

// milliseconds is the timeout as epoll_pwait takes it: rounded up, -1 for ever,
// and at most the 24.8 days that an int holds.
func milliseconds(timeout time.Duration) int32 {
	if timeout < 0 {
		return -1
	}
	ms := timeout / time.Millisecond
	if timeout%time.Millisecond != 0 {
		ms++
	}
	return int32(min(ms, math.MaxInt32))
}

// Wake implements [backend.Backend].
func (e *Epoll) Wake() error {
	one := uint64(1)
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(e.wakefd), uintptr(unsafe.Pointer(&one)), 8)
	if errno != 0 {
		return fmt.Errorf("write to the eventfd: %w", errno)
	}
	return nil
}

// Close implements [backend.Backend].
func (e *Epoll) Close() error {
	if !e.open {
		return nil
	}
	e.open = false
	return errors.Join(unix.Close(e.wakefd), unix.Close(e.epfd))
}

// ctl changes what this epoll watches. The eventfd is not for others to change.
func (e *Epoll) ctl(op int, h backend.Handle, bits uint32, k backend.Key) unix.Errno {
	if h == backend.Handle(e.wakefd) {
		return unix.EINVAL
	}
	return ctl(e.epfd, op, h, bits, k)
}

// ctl is epoll_ctl without a detour through the scheduler: it does not block.
// Fd and Pad together are the data word of an epoll_event on every
// architecture, whatever the layout around them.
func ctl(epfd, op int, h backend.Handle, bits uint32, k backend.Key) unix.Errno {
	if h > math.MaxInt32 {
		return unix.EBADF // the kernel would look at the lower half only
	}
	ev := unix.EpollEvent{Events: bits, Fd: int32(k), Pad: int32(k >> 32)}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), uintptr(op), uintptr(h),
		uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errno
}

// changeError translates what epoll_ctl answers. EEXIST and ENOENT already are
// fs.ErrExist and fs.ErrNotExist.
func changeError(errno unix.Errno) error {
	switch errno {
	case 0:
		return nil
	case unix.EPERM:
		// Left alone it would read as a lack of permission.
		return fmt.Errorf("%w: %w", backend.ErrNotPollable, errno)
	case unix.ENOSPC:
		return errTooManyWatches
	case unix.EINVAL:
		return fmt.Errorf("an epoll cannot watch itself, nor another one with Exclusive, and one file can be watched by at most 500 that are themselves watched, as those of parked Polls are: %w", errno)
	}
	return errno
}

// kernelBits translates an interest.
func kernelBits(in backend.Interest) (uint32, error) {
	var bits uint32
	if in.Has(backend.Readable) {
		// Without Readable, EPOLLRDHUP is not asked for: level-triggered, a peer
		// that half-closed would end every wait of a program that only writes.
		bits |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if in.Has(backend.Writable) {
		bits |= unix.EPOLLOUT
	}
	if in.Has(backend.Priority) {
		bits |= unix.EPOLLPRI
	}
	if in.Has(backend.Edge) {
		bits |= unix.EPOLLET
	}
	if in.Has(backend.OneShot) {
		bits |= unix.EPOLLONESHOT
	}
	if in.Has(backend.Exclusive) {
		if in.Has(backend.Priority) {
			return 0, fmt.Errorf("epoll has no Exclusive for Priority: %w", errors.ErrUnsupported)
		}
		bits &^= unix.EPOLLRDHUP // refused beside EPOLLEXCLUSIVE: EPOLLEXCLUSIVE_OK_BITS
		bits |= unix.EPOLLEXCLUSIVE
	}
	return bits, nil
}

// readiness translates an event.
func readiness(bits uint32) backend.Readiness {
	var r backend.Readiness
	if bits&unix.EPOLLIN != 0 {
		r |= backend.ReadyReadable
	}
	if bits&unix.EPOLLOUT != 0 {
		r |= backend.ReadyWritable
	}
	if bits&^(unix.EPOLLIN|unix.EPOLLOUT) == 0 {
		return r
	}
	if bits&unix.EPOLLPRI != 0 {
		r |= backend.ReadyPriority
	}
	if bits&unix.EPOLLERR != 0 {
		// Not WriteClosed: the error of a datagram socket comes in the same bits
		// as that of a pipe without a reader.
		r |= backend.ReadyError
	}
	if bits&unix.EPOLLRDHUP != 0 {
		r |= backend.ReadyReadClosed
	}
	if bits&unix.EPOLLHUP != 0 {
		r |= backend.ReadyReadClosed | backend.ReadyWriteClosed
	}
	return r
}

// keyOf is the data word of a kernel event.
func keyOf(ev *unix.EpollEvent) backend.Key {
	return backend.Key(uint32(ev.Fd)) | backend.Key(uint32(ev.Pad))<<32
}
