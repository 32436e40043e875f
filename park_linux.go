package epore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/unixfd"
)

// parker parks a goroutine on the Go runtime's poller until a queue that is a descriptor
// becomes readable. Only the queues of Linux can be parked on. The runtime watches for
// reading and writing, and a kqueue within a kqueue supports only reading; a completion port
// is not a descriptor.
//
// The descriptor is a duplicate, because an os.File closes what it was given. The runtime
// gets it only when it is first needed: a queue that is itself watched makes each
// registration more expensive (by 6 to 20 % on epoll), and a Poll that is always busy, or
// whose waits are always short, never parks.
type parker struct {
	queue  backend.Pollable
	name   string // of the queue, for the log
	log    hclog.Logger
	spare  int // a duplicate for the next attach, or -1
	gather func(*Events) (stay bool, err error)

	// file is the descriptor in the runtime's poller, or nil. Only the waiter changes it;
	// wake may still use one that has just been detached.
	file atomic.Pointer[os.File]
	raw  syscall.RawConn
	try  func(uintptr) bool

	// Of the call in progress: the events to fill, the error, the number of looks.
	events *Events
	err    error
	looks  int

	deadline time.Duration // the file's deadline
	unusable atomic.Bool   // the last attach failed
	failures int           // how many have failed
	retryAt  time.Duration // when to try again
}

// newParker returns a parker on the descriptor of b, or nil if b has none.
func newParker(b backend.Backend, log hclog.Logger, gather func(*Events) (bool, error)) (*parker, error) {
	q, ok := b.(backend.Pollable)
	if !ok {
		return nil, nil
	}
	k := &parker{queue: q, name: b.Name(), log: log, gather: gather}
	var err error
	if k.spare, err = k.dup(); err != nil {
		return nil, err
	}
	if err := runtimePoller.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the runtime's poller, to park on: %w", err), unix.Close(k.spare))
	}
	k.try = func(uintptr) (stay bool) {
		k.looks++
		stay, k.err = k.gather(k.events)
		return stay
	}
	return k, nil
}

func (k *parker) dup() (fd int, err error) {
	fd, err = unix.FcntlInt(uintptr(k.queue.Descriptor()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("duplicate its descriptor, to park on: %w", err)
	}
	return fd, nil
}

// runtimePoller is the runtime's poller: an epoll instance and an eventfd. The runtime opens
// it when it first needs it, and ends the program if that fails.
var runtimePoller pollerOfRuntime

type pollerOfRuntime struct {
	mu     sync.Mutex
	opened bool
}

// open makes the runtime open its poller now, before descriptors run out. It fails, and lets
// the runtime try nothing, if there is no room for the poller. Whether the poller is open
// already cannot be asked, so the first call may need the room in vain.
func (p *pollerOfRuntime) open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opened {
		return nil
	}
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	_ = unix.Close(epfd)
	if err != nil {
		return err
	}
	_ = unix.Close(wakefd)
	time.AfterFunc(time.Hour, func() {}).Stop() // a timer in the runtime's heap opens it
	p.opened = true
	return nil
}

// attach gives the descriptor to the runtime's poller.
func (k *parker) attach() (err error) {
	fd := k.spare
	if k.spare = -1; fd < 0 {
		if fd, err = k.dup(); err != nil {
			return err
		}
	}
	// os.NewFile gives only non-blocking descriptors to the poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	file := os.NewFile(uintptr(fd), "epore queue")
	if file == nil {
		return errors.Join(fs.ErrInvalid, unix.Close(fd))
	}
	k.queue.SetWatched(true)
	if k.raw, err = file.SyscallConn(); err == nil {
		// NewFile does not report that the runtime could not take it; this does.
		err = file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		k.queue.SetWatched(false)
		if cause := watch(fd); cause != nil {
			err = cause
		}
		return errors.Join(err, file.Close())
	}
	k.deadline = never
	k.file.Store(file)
	return nil
}

// detach takes the descriptor out of the runtime's poller. The next prepare attaches it
// again. Only the waiter calls it.
func (k *parker) detach() {
	file := k.file.Swap(nil)
	if file == nil {
		return
	}
	if fd, err := k.dup(); err == nil { // else the next attach tries again
		k.spare = fd
	}
	_ = file.Close()
	k.queue.SetWatched(false)
}

// watch does what the runtime's poller does to watch a descriptor, and returns the error,
// which the runtime keeps to itself.
func watch(fd int) error {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	defer unix.Close(epfd)
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET}
	return os.NewSyscallError("epoll_ctl of the queue's descriptor", unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &event))
}

// prepare sets the file's deadline, which is the duration left from now, and reports whether
// parking is possible.
func (k *parker) prepare(deadline, left time.Duration) bool {
	if k.file.Load() == nil && !k.tryAttach() {
		return false
	}
	if deadline != k.deadline {
		var t time.Time
		if deadline != never {
			t = time.Now().Add(left)
		}
		if k.file.Load().SetReadDeadline(t) != nil {
			return false
		}
		k.deadline = deadline
	}
	return true
}

// tryAttach attaches if it is time to try. While that fails, the Poll blocks: the failure may
// be one that passes, such as a kernel without memory.
func (k *parker) tryAttach() bool {
	if k.unusable.Load() && now() < k.retryAt {
		return false
	}
	err := k.attach()
	k.unusable.Store(err != nil)
	if err != nil {
		k.retryAt = retryAfter(k.failures, err)
		k.failures++
	}
	k.report(err)
	return err == nil
}

// Attempts to attach begin after firstRetry, and come half as often each time, up to
// lastRetry.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = time.Minute
)

// retryAfter returns when to try again after an attempt that follows some failures. A
// descriptor that cannot be polled remains so.
func retryAfter(failures int, err error) time.Duration {
	if errors.Is(err, unix.EPERM) {
		return never
	}
	wait := lastRetry
	if failures < 10 {
		wait = min(firstRetry<<failures, lastRetry)
	}
	return now() + wait
}

// report tells the log about the first failure, and that parking works after failures. It
// uses a new goroutine, because a logger may use the Poll, which the caller has locked.
func (k *parker) report(err error) {
	switch {
	case k.log == nil:
	case err != nil && k.failures == 1:
		go k.log.Warn("a Poll cannot park now: it holds a thread while it waits", "backend", k.name, "error", err)
	case err == nil && k.failures > 0:
		go k.log.Info("a Poll can park again", "backend", k.name, "failures", k.failures)
		k.failures = 0
	}
}

// past is the deadline that wakes a parked goroutine.
var past = time.Unix(1, 0)

// expired is the value of k.deadline when the file's deadline is past.
const expired time.Duration = 0

// park returns when there are events, which it has gathered, or without events when the
// deadline has passed or wake was called. It looks before it sleeps, and reports whether it
// slept.
func (k *parker) park(events *Events) (slept bool, err error) {
	k.events, k.err, k.looks = events, nil, 0
	err = k.raw.Read(k.try)
	k.events = nil
	if err == nil {
		return k.looks > 1, k.err
	}
	// Whatever set that deadline, it remains in the file, and no Read would begin.
	k.deadline = expired
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true, nil
	}
	return false, &OpError{"poll", "the queue's descriptor in the runtime's poller", err}
}

// wake ends the park in progress. If that ended by itself meanwhile, the next park ends
// early, which costs its caller an iteration.
func (k *parker) wake() {
	if file := k.file.Load(); file != nil {
		_ = file.SetReadDeadline(past)
	}
}

// close releases the descriptors.
func (k *parker) close() error {
	var err error
	if k.spare >= 0 {
		err = unixfd.Close(k.spare)
		k.spare = -1
	}
	if file := k.file.Swap(nil); file != nil {
		if closeErr := file.Close(); !errors.Is(closeErr, unix.EINTR) { // see unixfd.Close
			err = errors.Join(err, closeErr)
		}
	}
	return err
}
