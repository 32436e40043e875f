//go:build unix

// Package posix translates between package backend and poll(2): bits and timeouts. epoll
// and io_uring use the same bits, and epoll the same timeouts in milliseconds.
package posix

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// Bits translates the conditions of an interest. The caller translates the modes.
func Bits(in backend.Interest) (bits uint32) {
	if in.Has(backend.Readable) {
		// Only with Readable: level-triggered, a half-close by the peer would end every
		// wait of a program that only writes.
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
		// Not WriteClosed: the error of a datagram socket has the same bits as that of a
		// pipe without a reader.
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

// Milliseconds translates a timeout for poll(2) and epoll_pwait(2): it is rounded up and
// cut to the 24.8 days that an int holds. A negative timeout, which waits indefinitely,
// becomes -1.
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
