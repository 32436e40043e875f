//go:build linux

package epoll

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
	"github.com/epore/epore/backend/internal/posix"
	"github.com/epore/epore/internal/android"
	"github.com/epore/epore/internal/unixfd"
)

// Epoll is an epoll instance and the eventfd that wakes it. Create it with [New]. It
// serves one Poll.
type Epoll struct {
	epfd   int               // -1 after Close
	wakefd int               // likewise
	buf    []unix.EpollEvent // the kernel writes into it; only Wait uses it

	// nanoseconds reports that epoll_pwait2 works. Only Open and Wait use it.
	nanoseconds bool
	// resolution is that of timeouts when the queue was opened.
	resolution time.Duration
	watched    atomic.Bool // by the runtime: see SetWatched
	// timespec is the timeout of the wait in progress, as epoll_pwait2 takes it:
	// a struct __kernel_timespec, two 64-bit words on every architecture (which
	// unix.Timespec is not).
	timespec [2]int64
}

// New returns a queue that is not open yet. epore.NewWith opens it.
func New() *Epoll { return &Epoll{epfd: -1, wakefd: -1} }

var (
	_ backend.Backend  = (*Epoll)(nil)
	_ backend.Pollable = (*Epoll)(nil)
)

// Name implements [backend.Backend].
func (e *Epoll) Name() string { return "epoll" }

// Open implements [backend.Backend].
func (e *Epoll) Open() error {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return linux.OpenError("epoll_create1", err)
	}
	wakefd, err := linux.Eventfd()
	if err != nil {
		unix.Close(epfd)
		return linux.OpenError("eventfd", err)
	}
	// The eventfd is edge-triggered, so it need never be read: each write is an edge,
	// and the counter overflows after 2^64 wakes only. Its key is zero.
	if err := linux.Ctl(epfd, unix.EPOLL_CTL_ADD, backend.Handle(wakefd), unix.EPOLLIN|unix.EPOLLET, 0); err != 0 {
		unix.Close(wakefd)
		unix.Close(epfd)
		return linux.OpenError("epoll_ctl of the eventfd", err)
	}
	e.epfd, e.wakefd = epfd, wakefd
	e.grow(1)
	// A trial call, not the kernel's version, decides: seccomp filters refuse
	// epoll_pwait2 with EPERM or ENOSYS on kernels that have it. Android's filter would
	// end the process.
	if !android.Filtered() {
		_, errno := e.pwait2(1, 0)
		e.nanoseconds = errno == 0
	}
	e.resolution = time.Millisecond
	if e.nanoseconds {
		e.resolution = time.Nanosecond
	}
	return nil
}

// Capabilities implements [backend.Backend].
func (e *Epoll) Capabilities() backend.Capabilities {
	return backend.Capabilities{
		Interests: backend.Readable | backend.Writable | backend.Priority |
			backend.Edge | backend.OneShot | backend.Exclusive,
		Resolution: e.resolution,
	}
}

// Descriptor implements [backend.Pollable].
func (e *Epoll) Descriptor() int { return e.epfd }

// SetWatched implements [backend.Pollable]. EPOLL_CTL_ADD to an epoll that is itself watched
// takes a mutex of the whole kernel (epnested_mutex of fs/eventpoll.c) and walks the paths of
// wake-ups, so it tells Go's scheduler that it may wait.
func (e *Epoll) SetWatched(watched bool) { e.watched.Store(watched) }

// Add implements [backend.Backend].
func (e *Epoll) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	bits, err := kernelBits(in)
	if err != nil {
		return err
	}
	if e.watched.Load() && h != backend.Handle(e.wakefd) {
		return linux.CtlError(linux.CtlAnnounced(e.epfd, unix.EPOLL_CTL_ADD, h, bits, uint64(k)))
	}
	return linux.CtlError(e.ctl(unix.EPOLL_CTL_ADD, h, bits, k))
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
			return linux.CtlError(errno)
		}
	}
	// The kernel refuses EPOLL_CTL_MOD to or from EPOLLEXCLUSIVE, so this takes two
	// calls. No event is lost between them: EPOLL_CTL_ADD reports what is ready now.
	if errno := e.ctl(unix.EPOLL_CTL_DEL, h, 0, 0); errno != 0 {
		return linux.CtlError(errno)
	}
	if errno := e.ctl(unix.EPOLL_CTL_ADD, h, bits, k); errno != 0 {
		return fmt.Errorf("%w: %w", backend.ErrLost, linux.CtlError(errno))
	}
	return nil
}

// Delete implements [backend.Backend].
func (e *Epoll) Delete(h backend.Handle) error {
	return linux.CtlError(e.ctl(unix.EPOLL_CTL_DEL, h, 0, 0))
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
		woken, repeated, known := false, false, dst[:out]
		for i := range e.buf[:n] {
			ev := &e.buf[i]
			key, ready := keyOf(ev), posix.Readiness(ev.Events)
			if key == 0 {
				woken = true
				continue
			}
			if at := slices.IndexFunc(known, func(k backend.Event) bool { return k.Key == key }); at >= 0 {
				known[at].Ready |= ready
				repeated = true
				continue
			}
			dst[out] = backend.Event{Key: key, Ready: ready}
			out++
		}
		if !woken || repeated || n < room {
			return out, nil
		}
		// The eventfd took the place of an event. Returning fewer events than fit would
		// mean that no more are ready, so look again. The kernel moves level-triggered
		// sources that it has reported behind the others: one that comes again means that
		// all others have come.
		timeout = 0
	}
}

// maxEvents is the kernel's limit for maxevents: EP_MAX_EVENTS of fs/eventpoll.c,
// with the larger of the two layouts of epoll_event.
const maxEvents = math.MaxInt32 / 16

// grow makes room for n kernel events.
func (e *Epoll) grow(n int) {
	if n > len(e.buf) {
		e.buf = make([]unix.EpollEvent, min(n, maxEvents))
	}
}

// wait makes the system call: a raw one if it cannot block, or else one that tells
// Go's scheduler.
func (e *Epoll) wait(room int, timeout time.Duration) (int, unix.Errno) {
	if timeout == 0 {
		n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.epfd),
			uintptr(unsafe.Pointer(&e.buf[0])), uintptr(room), 0, 0, 0)
		return int(n), errno
	}
	if e.nanoseconds {
		n, errno := e.pwait2(room, timeout)
		switch errno {
		case 0, unix.EINTR, unix.EBADF, unix.EFAULT, unix.EINVAL:
			return n, errno
		}
		// The kernel gives no other error: a seccomp filter that came into force after
		// Open refuses the call.
		e.nanoseconds = false
	}
	n, _, errno := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.epfd),
		uintptr(unsafe.Pointer(&e.buf[0])), uintptr(room), uintptr(posix.Milliseconds(timeout)), 0, 0)
	return int(n), errno
}

// pwait2 waits with epoll_pwait2, whose timeout is in nanoseconds.
func (e *Epoll) pwait2(room int, timeout time.Duration) (int, unix.Errno) {
	var ts *[2]int64 // nil: wait indefinitely
	if timeout >= 0 {
		e.timespec = [2]int64{int64(timeout / time.Second), int64(timeout % time.Second)}
		ts = &e.timespec
	}
	n, _, errno := syscall.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(e.epfd),
		uintptr(unsafe.Pointer(&e.buf[0])), uintptr(room), uintptr(unsafe.Pointer(ts)), 0, 0)
	return int(n), errno
}

// Wake implements [backend.Backend].
func (e *Epoll) Wake() error { return linux.Wake(e.wakefd) }

// Close implements [backend.Backend].
func (e *Epoll) Close() error {
	epfd, wakefd := e.epfd, e.wakefd
	e.epfd, e.wakefd = -1, -1 // a late call must not reach the next owner of a number
	return errors.Join(unixfd.Close(wakefd), unixfd.Close(epfd))
}

// ctl changes what this epoll watches. It refuses the eventfd, which must not be
// registered by anybody else.
func (e *Epoll) ctl(op int, h backend.Handle, bits uint32, k backend.Key) unix.Errno {
	if h == backend.Handle(e.wakefd) {
		return unix.EINVAL
	}
	return linux.Ctl(e.epfd, op, h, bits, uint64(k))
}

// kernelBits translates an interest into epoll's event bits and flags.
func kernelBits(in backend.Interest) (uint32, error) {
	bits := posix.Bits(in)
	if in.Has(backend.Edge) {
		bits |= unix.EPOLLET
	}
	if in.Has(backend.OneShot) {
		bits |= unix.EPOLLONESHOT
	}
	if in.Has(backend.Exclusive) {
		if in.Has(backend.Priority) {
			return 0, fmt.Errorf("epoll supports no Exclusive with Priority: %w", errors.ErrUnsupported)
		}
		bits &^= unix.EPOLLRDHUP // not among EPOLLEXCLUSIVE_OK_BITS
		bits |= unix.EPOLLEXCLUSIVE
	}
	return bits, nil
}

// keyOf returns the data word of a kernel event.
func keyOf(ev *unix.EpollEvent) backend.Key {
	return backend.Key(uint32(ev.Fd)) | backend.Key(uint32(ev.Pad))<<32
}
