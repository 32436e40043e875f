package kqsim

import (
	"container/list"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/kq"
	"github.com/epore/epore/internal/unixfd"
)

// Kernel is a simulated kernel with the queues of one process. Its methods may be called
// from any goroutine.
type Kernel struct {
	p Profile

	mu     sync.RWMutex // lock order: queue.mu before mu
	queues map[int]*queue
	stale  bool // see StaleOneShots
}

// New returns a kernel that behaves as p says.
func New(p Profile) *Kernel { return &Kernel{p: p, queues: make(map[int]*queue)} }

var _ kq.Kernel = (*Kernel)(nil)

// System implements [kq.Kernel].
func (k *Kernel) System() kq.System {
	sys := k.p.sys
	sys.Name = k.p.Name
	return sys
}

// StaleOneShots sets whether a one-shot event is delivered as it was when it became due,
// although its condition may no longer hold. All kernels except that of macOS do so. The
// default is to evaluate the condition again, as macOS always does.
func (k *Kernel) StaleOneShots(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stale = on && k.p.blindOneShot
}

// reevaluatesOneShots is the opposite of StaleOneShots.
func (k *Kernel) reevaluatesOneShots() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return !k.stale
}

func (k *Kernel) queue(fd int) *queue {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.queues[fd]
}

// queue is a simulated kqueue.
type queue struct {
	k  *Kernel
	fd int // an epoll instance that has those below, so that it can be polled

	mu   sync.Mutex
	call int // an eventfd that ends the sleep of waiters
	// watches are epoll instances, one for each filter of descriptors, so that an event
	// in one direction is not an edge of the other.
	watches [watches]int
	called  bool // the eventfd is readable

	knotes map[name]*knote
	byKey  map[uint64]*knote // the knotes in an epoll instance, by its data word
	files  map[*knote]bool   // the knotes that epoll does not take
	key    uint64            // the latest one
	due    list.List         // of *knote, in the order in which they became active
	scans  uint64

	interrupted bool
	closed      bool // it is released when no call waits
	released    bool
	waiting     int
	buf         [128]unix.EpollEvent
}

const (
	watchRead = iota
	watchWrite
	watchExcept
	watches
)

var watchBits = [watches]uint32{
	watchRead:   unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET,
	watchWrite:  unix.EPOLLOUT | unix.EPOLLET,
	watchExcept: unix.EPOLLPRI | unix.EPOLLET,
}

// Kqueue implements [kq.Kernel].
func (k *Kernel) Kqueue() (int, error) {
	q := &queue{
		k:      k,
		fd:     -1,
		call:   -1,
		knotes: make(map[name]*knote),
		byKey:  make(map[uint64]*knote),
		files:  make(map[*knote]bool),
	}
	for i := range q.watches {
		q.watches[i] = -1
	}
	if err := q.open(); err != nil {
		q.release()
		if q.fd >= 0 {
			_ = unix.Close(q.fd)
		}
		return -1, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.queues[q.fd] = q
	return q.fd, nil
}

func (q *queue) open() (err error) {
	if q.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if q.call, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return err
	}
	for i := range q.watches {
		if q.watches[i], err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return err
		}
	}
	for _, fd := range append(q.watches[:], q.call) {
		if errno := ctl(q.fd, unix.EPOLL_CTL_ADD, uint64(fd), unix.EPOLLIN, 0); errno != 0 {
			return errno
		}
	}
	return nil
}

// release closes the descriptors of the queue except its number.
func (q *queue) release() {
	if q.released {
		return
	}
	q.released = true
	for _, kn := range q.knotes {
		if kn.kind == process {
			q.drop(kn)
		}
	}
	for _, fd := range append(q.watches[:], q.call) {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// Close implements [kq.Kernel]. A waiting Kevent returns EBADF, or sleeps on: that depends
// on the system.
func (k *Kernel) Close(fd int) error {
	k.mu.Lock()
	q := k.queues[fd]
	delete(k.queues, fd)
	k.mu.Unlock()
	if q == nil {
		return unix.EBADF
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.waiting > 0 {
		for _, kn := range q.knotes {
			q.drop(kn)
		}
	}
	err := unixfd.Close(fd)
	q.leave()
	return err
}

// Interrupt makes the Kevent that is blocked on the queue return EINTR, or the next one
// that would block.
func (k *Kernel) Interrupt(fd int) {
	if q := k.queue(fd); q != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.interrupted = true
		q.settle()
	}
}

// maxTimeout is the longest timeout that kernels take.
const maxTimeout = 100_000_000 * time.Second

// Kevent implements [kq.Kernel].
func (k *Kernel) Kevent(fd int, changes, events []kq.Event, timeout time.Duration) (int, error) {
	q := k.queue(fd)
	if q == nil {
		return 0, unix.EBADF
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0, unix.EBADF
	}
	defer q.leave()
	n, stop, err := q.change(changes, events)
	if n > 0 || stop || len(events) == 0 {
		return n, err
	}
	if timeout > maxTimeout {
		if !k.p.longIsPoll {
			return 0, unix.EINVAL
		}
		timeout = 0
	}
	return q.wait(events, timeout)
}

// leave ends a call.
func (q *queue) leave() {
	if q.closed && q.waiting == 0 {
		q.release()
	} else {
		q.settle()
	}
}

// settle wakes the waiters if there is something to deliver, and otherwise lets them
// sleep.
func (q *queue) settle() {
	want := q.due.Len() > 0 || q.interrupted || q.closed
	if q.closed && q.k.p.deafToClose {
		want = false
	}
	if want == q.called || q.released {
		return
	}
	q.called = want
	word := []byte{1, 0, 0, 0, 0, 0, 0, 1} // not zero in either byte order
	if want {
		_, _ = unix.Write(q.call, word)
	} else {
		_, _ = unix.Read(q.call, word)
	}
}

func (q *queue) wait(events []kq.Event, timeout time.Duration) (int, error) {
	begin := time.Now()
	for {
		q.collect()
		if n := q.scan(events); n > 0 {
			return n, nil
		}
		left := timeout
		if timeout >= 0 {
			if left = timeout - time.Since(begin); timeout == 0 || left <= 0 {
				return 0, nil
			}
		}
		if q.interrupted {
			q.interrupted = false
			return 0, unix.EINTR
		}
		err := q.sleep(left)
		if q.closed && !q.k.p.deafToClose {
			return 0, unix.EBADF
		}
		if err != nil {
			return 0, err
		}
	}
}

// sleep unlocks the queue and waits until something may be due.
func (q *queue) sleep(left time.Duration) error {
	q.settle()
	fds := []unix.PollFd{{Fd: int32(q.call), Events: unix.POLLIN}}
	for _, fd := range q.watches {
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	var limit *unix.Timespec
	if left >= 0 {
		ts := unix.NsecToTimespec(int64(left))
		limit = &ts
	}
	q.waiting++
	q.mu.Unlock()
	_, err := unix.Ppoll(fds, limit, nil)
	q.mu.Lock()
	q.waiting--
	return err
}

// ctl is epoll_ctl(2).
func ctl(epfd, op int, fd uint64, bits uint32, data uint64) unix.Errno {
	if fd > maxDescriptor {
		return unix.EBADF
	}
	err := unix.EpollCtl(epfd, op, int(fd), &unix.EpollEvent{Events: bits, Fd: int32(data), Pad: int32(data >> 32)})
	return errnoOf(err)
}

func errnoOf(err error) (errno unix.Errno) {
	errors.As(err, &errno)
	return errno
}
