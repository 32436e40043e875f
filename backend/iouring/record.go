//go:build linux

package iouring

import (
	"errors"
	"math"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
)

// record is what a descriptor number is registered for: 32 bytes. It outlives
// the registration, so that sequence numbers go on.
type record struct {
	key      backend.Key
	identity uint64 // of the file; see identify
	seq      uint32 // of the last request; completions of others are stale
	round    uint32 // the Wait in or after which it was made; or, of edges, that reported them
	pending  uint8  // the Readiness that is to be reported
	interest backend.Interest
	state    state
	inArms   bool  // in Uring.arms
	inReady  bool  // in Uring.ready
	multi    bool  // a request for edges stands in for a single one: see take
	doubt    bool  // what is pending may be over: see take
	ends     uint8 // how many requests for edges the kernel has ended, one after the other
}

type state uint8

const (
	unknown state = iota // not registered
	queued               // to be armed
	armed                // a request is with the kernel, or in the submission queue
	fired                // the request has completed, and that is to be reported
	shot                 // nothing more will come: one-shot, and has had its event
)

func (r *record) userData(fd uint32) uint64 { return uint64(r.seq)<<32 | uint64(fd) }

// request makes e the record's next poll request.
func (r *record) request(e *sqe, fd, round uint32) {
	r.seq++
	r.round = round
	r.state = armed
	bits := linux.Bits(r.interest)
	if r.multi || r.edges() {
		e.length = pollMulti
	}
	if r.urgent() {
		bits |= unix.EPOLLRDBAND
	}
	e.opcode, e.fd, e.opFlags, e.userData = opPollAdd, int32(fd), polled(bits), r.userData(fd)
}

// edges reports that the request is to go on after an event.
func (r *record) edges() bool { return r.interest&(backend.Edge|backend.OneShot) == backend.Edge }

// urgent reports that urgent data of a socket is asked for. The kernel leaves
// POLLPRI out when it decides whether a wake-up concerns a request. Sockets wake
// with POLLRDBAND, too, so that is asked for as well; but they do so for all that
// arrives, and say POLLPRI with it, so it must be looked up.
func (r *record) urgent() bool {
	return r.interest.Has(backend.Priority) && r.identity != notSocket
}

// consuming reports that looking may make the condition go away: some files that
// are no sockets say POLLPRI to the first who asks (/proc/self/mounts).
func (r *record) consuming() bool {
	return r.interest.Has(backend.Priority) && r.identity == notSocket
}

// readiness returns what of the kernel's bits is to be reported. The end of the
// stream, which always comes, is none to one who only writes: see linux.Bits.
func (r *record) readiness(bits uint32) backend.Readiness {
	return linux.Readiness(bits & (linux.Bits(r.interest) | unix.EPOLLERR | unix.EPOLLHUP))
}

// poll is poll(2), without waiting. It says whether it could look.
func poll(fds []unix.PollFd) bool {
	if len(fds) == 0 {
		return false
	}
	var now [2]int64
	_, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)),
		uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return errno == 0
}

// records are found by descriptor, in pages that do not move.
type records struct{ pages []*[recordPage]record }

const recordPage = 512

// get returns the record of fd, or nil if it never had one.
func (x *records) get(fd uint32) *record {
	if p := int(fd / recordPage); p < len(x.pages) && x.pages[p] != nil {
		return &x.pages[p][fd%recordPage]
	}
	return nil
}

// add is get that makes it. fd is open, so there is a limit to it.
func (x *records) add(fd uint32) *record {
	p := int(fd / recordPage)
	if p >= len(x.pages) {
		x.pages = append(x.pages, make([]*[recordPage]record, p+1-len(x.pages))...)
	}
	if x.pages[p] == nil {
		x.pages[p] = new([recordPage]record)
	}
	return &x.pages[p][fd%recordPage]
}

const maxDescriptor = math.MaxInt32

// notSocket is the identity of files that have none of their own.
const notSocket = 0

// identify returns what tells the file behind h from every other: the kernel
// numbers sockets, and never gives a number twice (SO_COOKIE, socket(7)). So the
// owner of a number that was closed and reused is told from the one before, and
// a socket can always be polled: one system call answers for both.
//
// Other files have nothing of the kind. Device and inode are the same for all
// eventfds and timerfds, and for both ends of a pipe: those are in the ledger.
func identify(h backend.Handle) (uint64, unix.Errno) {
	if uint64(h) > maxDescriptor {
		return 0, unix.EBADF
	}
	var cookie uint64
	size := uint32(8)
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(h), unix.SOL_SOCKET, unix.SO_COOKIE,
		uintptr(unsafe.Pointer(&cookie)), uintptr(unsafe.Pointer(&size)), 0)
	if errno == unix.ENOTSOCK {
		return notSocket, 0
	}
	return cookie, errno
}

// ledger is an epoll that nobody waits on. The kernel keeps in it which files
// that are no sockets are registered, by number and file, and forgets them when
// they are closed; and it refuses what cannot be polled.
type ledger struct{ epfd int }

// nothing is asked for in the ledger, and after the first hang-up or error,
// which come unasked, not even those.
const nothing = unix.EPOLLONESHOT | unix.EPOLLET

func (l *ledger) add(h backend.Handle) unix.Errno {
	if l.epfd < 0 {
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			var errno unix.Errno
			errors.As(err, &errno)
			return errno
		}
		l.epfd = fd
	}
	return linux.Ctl(l.epfd, unix.EPOLL_CTL_ADD, h, nothing, 0)
}

func (l *ledger) change(op int, h backend.Handle) unix.Errno {
	return linux.Ctl(l.epfd, op, h, nothing, 0)
}

func (l *ledger) close() error {
	if l.epfd < 0 {
		return nil
	}
	return unix.Close(l.epfd)
}
