//go:build linux

package iouring

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
	"github.com/epore/epore/backend/internal/posix"
	"github.com/epore/epore/internal/uring"
)

// record is what a descriptor number is registered for: 32 bytes. It outlives
// the registration, so that its sequence numbers continue.
type record struct {
	key      backend.Key
	identity linux.FileID
	seq      uint32 // of the last request; completions of others are stale; see anyRequest
	round    uint32 // see Uring.say
	pending  uint8  // the Readiness to report
	interest backend.Interest
	state    state
	queued   bool  // listed in Uring.arms
	listed   bool  // listed in Uring.candidates
	multi    bool  // a multishot request replaces a single one: see Uring.take
	doubt    bool  // what is pending may be over: see Uring.say
	ends     uint8 // how many multishot requests the kernel ended in a row
}

// anyRequest are the bits of a sequence number that count the requests for one
// file; the others count the files.
const anyRequest = 1<<12 - 1

type state uint8

const (
	unregistered state = iota
	toArm              // a request is to be made
	armed              // a request is with the kernel, or in the submission queue
	fired              // the single request of a one-shot registration has completed
	silent             // no request: one-shot after its event, or nothing to wait for
)

func (r *record) userData(fd uint32) uint64 { return uint64(r.seq)<<32 | uint64(fd) }

// request makes e the record's next poll request.
func (r *record) request(e *uring.SQE, fd, round uint32) {
	r.seq++
	r.round = round
	r.state = armed
	bits := posix.Bits(r.interest)
	if r.multi || !r.interest.Has(backend.OneShot) {
		e.Length = uring.PollMulti
	}
	if r.urgent() {
		bits |= unix.EPOLLRDBAND
	}
	e.Opcode, e.FD, e.OpFlags, e.UserData = uring.OpPollAdd, int32(fd), uring.PollBits(bits), r.userData(fd)
}

// level reports whether the registration is level-triggered.
func (r *record) level() bool { return r.interest&(backend.Edge|backend.OneShot) == 0 }

// urgent reports whether urgent data of a socket is wanted. The kernel ignores
// POLLPRI when it decides whether a wake-up concerns a request. Sockets wake with
// POLLRDBAND as well, so the request asks for that too. They do so for any data
// that arrives, and set POLLPRI with it, so each such event needs a look.
func (r *record) urgent() bool {
	return r.interest.Has(backend.Priority) && r.identity.IsSocket()
}

// mustLook reports whether poll(2) has to be asked before the record is reported
// in the given Wait: its condition may be over, or nothing is known of it. A file
// whose poll takes away what it says is asked only in the latter case; what it has
// said already is reported.
func (r *record) mustLook(round uint32) bool {
	switch {
	case r.state == unregistered:
		return false
	case r.pending == 0 || r.identity.Consumed():
		return r.pending == 0 && r.level()
	case r.interest.Has(backend.OneShot) || r.level():
		return r.doubt || r.round != round
	}
	return r.doubt
}

// readiness returns the part of the kernel's bits that is to be reported. The
// end of the stream always comes; it is dropped if only writing is asked for, as
// posix.Bits explains.
func (r *record) readiness(bits uint32) backend.Readiness {
	return posix.Readiness(bits & (posix.Bits(r.interest) | unix.EPOLLERR | unix.EPOLLHUP))
}

// poll is poll(2) without waiting. It reports whether it succeeded. If a signal has
// come and nothing is ready, Linux says EINTR; only then does it look for signals.
func poll(fds []unix.PollFd) bool {
	var now [2]int64
	_, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)),
		uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return errno == 0 || errno == unix.EINTR
}
