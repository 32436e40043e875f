//go:build unix

// Package kq is the interface between the code that uses a kqueue and the kernel that
// has it: three system calls, and a description of what differs between systems. The
// kernel is the one that the program runs on ([Native]), or a simulated one for tests.
package kq

import "time"

// Event is a kevent: a change, or an event that the kernel reports. Its fields are those
// of kevent(2), in one layout. The numbers of the filters are the system's.
type Event struct {
	Ident  uint64
	Filter int32
	Flags  uint32
	Fflags uint32
	Data   int64
	Udata  uint32
}

// Kernel is the system calls of kqueue.
type Kernel interface {
	// Kqueue creates a queue, which child processes do not inherit.
	Kqueue() (int, error)
	// Kevent calls kevent(2). It applies the changes, and then waits for events, unless
	// events has no room. A negative timeout waits indefinitely. Errors are errnos.
	Kevent(kq int, changes, events []Event, timeout time.Duration) (int, error)
	// Close closes a queue.
	Close(kq int) error
	// System describes the kqueue of this kernel.
	System() System
}

// System is what differs between systems.
type System struct {
	Name string // the GOOS
	// Read, Write and Proc are the filters that all systems have.
	Read, Write, Proc int32
	// User is EVFILT_USER, if HasUser: the system's headers define it. The kernel may
	// be older than they are, and refuse it.
	User    int32
	HasUser bool
	// Except is EVFILT_EXCEPT, which reports urgent data, and OOB its flag NOTE_OOB, if
	// HasExcept.
	Except    int32
	OOB       uint32
	HasExcept bool
	// SilentFullPipe says that EVFILT_WRITE does not report when the reader of a full pipe
	// goes: the kernel wakes the knotes before it marks the pipe. EVFILT_READ on the
	// writing end reports it.
	SilentFullPipe bool
}

// These flags are the same on all systems.
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

// newNative returns the kernel of this system. It is nil where there is no kqueue.
var newNative func() Kernel

// Native returns the kernel of the system that the program runs on, or nil if that has
// no kqueue. One Kernel serves one goroutine that waits; changes may come from any.
func Native() Kernel {
	if newNative == nil {
		return nil
	}
	return newNative()
}
