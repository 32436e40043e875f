//go:build unix

// Package posix is the vocabulary of poll(2), in which its heirs speak too: the
// bits of epoll and of io_uring are the same, and so are timeouts in
// milliseconds.
package posix

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// Bits translates an interest. The modes are the caller's to translate.
func Bits(in backend.Interest) (bits uint32) {
	if in.Has(backend.Readable) {
		// Without Readable, the half-close is not asked for: level-triggered, a peer
		// that half-closed would end every wait of a program that only writes.
		bits |= unix.POLLIN | rdhup
	}
	if in.Has(backend.Writable) {
		bits |= unix.POLLOUT
	}
	if in.Has(backend.Priority) {
		bits |= unix.POLLPRI
	}
	return bits
}

// Readiness translates the bits of an event.
func Readiness(bits uint32) backend.Readiness {
	var r backend.Readiness
	if bits&unix.POLLIN != 0 {
		r |= backend.ReadyReadable
	}
	if bits&unix.POLLOUT != 0 {
		r |= backend.ReadyWritable
	}
	if bits&^(unix.POLLIN|unix.POLLOUT) == 0 {
		return r
	}
	if bits&unix.POLLPRI != 0 {
		r |= backend.ReadyPriority
	}
	if bits&unix.POLLERR != 0 {
		// Not WriteClosed: the error of a datagram socket comes in the same bits
		// as that of a pipe without a reader.
		r |= backend.ReadyError
	}
	if bits&rdhup != 0 {
		r |= backend.ReadyReadClosed
	}
	if bits&unix.POLLHUP != 0 {
		r |= backend.ReadyReadClosed | backend.ReadyWriteClosed
	}
	return r
}

// Milliseconds is a timeout as poll and epoll_pwait take it: rounded up, -1 for
// ever, and at most the 24.8 days that an int holds.
func Milliseconds(timeout time.Duration) int32 {
	if timeout < 0 {
		return -1
	}
	ms := timeout / time.Millisecond
	if timeout%time.Millisecond != 0 {
		ms++
	}
	return int32(min(ms, math.MaxInt32))
}
