//go:build linux

package iouring

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
	"github.com/epore/epore/backend/internal/posix"
)

// record is what a descriptor number is registered for: 32 bytes. It outlives
// the registration, so that sequence numbers go on.
type record struct {
	key      backend.Key
	identity linux.FileID
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
	bits := posix.Bits(r.interest)
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
	return r.interest.Has(backend.Priority) && r.identity != linux.NotSocket
}

// consuming reports that looking may make the condition go away: some files that
// are no sockets say POLLPRI to the first who asks (/proc/self/mounts).
func (r *record) consuming() bool {
	return r.interest.Has(backend.Priority) && r.identity == linux.NotSocket
}

// readiness returns what of the kernel's bits is to be reported. The end of the
// stream, which always comes, is none to one who only writes: see posix.Bits.
func (r *record) readiness(bits uint32) backend.Readiness {
	return posix.Readiness(bits & (posix.Bits(r.interest) | unix.EPOLLERR | unix.EPOLLHUP))
}

// poll is poll(2), without waiting. It says whether it could look.
func poll(fds []unix.PollFd) bool {
	if len(fds) == 0 {
		return false
	}
	var now [2]int64
	_, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)),
		uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return errno == 0
}
