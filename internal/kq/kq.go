//go:build unix

// Package kq is a kernel's kqueue as the backend on it sees it: three calls and
// what differs from one system to the next. It is a BSD's own, or a simulated one
// for tests.
package kq

import "time"

// Event is a kevent: a change, or what came of one. Its fields are those of
// kevent(2), in one layout; numbers of filters and flags are the system's.
type Event struct {
	Ident  uint64
	Filter int32
	Flags  uint32
	Fflags uint32
	Data   int64
	Udata  uint32
}

// Kernel is the three calls.
type Kernel interface {
	// Kqueue makes a queue, which no child process inherits.
	Kqueue() (int, error)
	// Kevent is kevent(2): it makes the changes, then waits for events, for as long as
	// there is room for any; a negative timeout has no end. Errors are errnos.
	Kevent(kq int, changes, events []Event, timeout time.Duration) (int, error)
	// Close closes a queue.
	Close(kq int) error
	// System tells what there is.
	System() System
}

// System is what differs.
type System struct {
	Name string // GOOS
	// The filters that all have.
	Read, Write, Proc int32
	// User is EVFILT_USER where the headers know it: HasUser. The kernel may still
	// refuse it.
	User    int32
	HasUser bool
	// Except is EVFILT_EXCEPT, for urgent data, with the flag NOTE_OOB: HasExcept.
	Except    int32
	OOB       uint32
	HasExcept bool
}

// The flags, which are the same on all.
const (
	Add      = 0x1
	Delete   = 0x2
	Enable   = 0x4
	Disable  = 0x8
	OneShot  = 0x10
	Clear    = 0x20
	Receipt  = 0x40
	Dispatch = 0x80
	Error    = 0x4000
	EOF      = 0x8000

	// Trigger is NOTE_TRIGGER of EVFILT_USER.
	Trigger = 0x01000000
	// Exit is NOTE_EXIT of EVFILT_PROC.
	Exit = 0x80000000
)
