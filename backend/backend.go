// Package backend defines the interface between Epore's core and the event
// queues of operating systems.
//
// A backend translates and decides nothing. It passes each change to its kernel,
// waits, and returns the kernel's answer as [Readiness]. The core handles
// deadlines, interrupted system calls, concurrent calls of Poll, stale events,
// duplicate descriptors and the order of closing, once for all backends. To write
// a backend, see docs/porting.md. To test one, use backendtest.Run.
package backend

import "time"

// Backend is an event queue: a kernel object, or an emulation of one.
//
// The core guarantees the following, so a backend does not check it:
//   - Open is the first call and Close the last, each of them once. The core calls
//     no method except Name before Open, after a failed Open, or after Close.
//   - Add, Modify and Delete are called from any goroutine, one at a time. At
//     most one Wait runs concurrently, and they must not wait for it to return.
//   - Wake is called from any goroutine, concurrently with any method except Open
//     and Close.
//   - An Interest has at least one condition, compatible modes, and no bit
//     outside Capabilities().Interests.
//
// Errors unwrap to the system's errno and to the error values named below.
type Backend interface {
	// Name returns a short constant name, such as "epoll". It may be called at
	// any time.
	Name() string

	// Open acquires the queue. If the system refuses, the error names the likely
	// cause and what to do.
	Open() error

	// Capabilities returns what the queue supports on this system.
	Capabilities() Capabilities

	// Add starts watching h. If h is already watched, it returns an error that is
	// fs.ErrExist and changes nothing. This is exact, even if h was closed and its
	// number reused. If h can never become ready, Add returns ErrNotPollable.
	Add(h Handle, k Key, in Interest) error

	// Modify replaces the key and interest of a watched handle and rearms it: if h
	// is ready now, an event follows. It returns fs.ErrNotExist if h is not
	// watched, and ErrLost if h is no longer watched because Modify failed
	// halfway. After any other error, h is watched as before.
	Modify(h Handle, k Key, in Interest) error

	// Delete stops watching h at once: if h is closed next, this takes effect
	// without another Wait. It returns fs.ErrNotExist if h is not watched.
	Delete(h Handle) error

	// Wait stores up to len(dst) > 0 events in dst and returns their number. A
	// number below len(dst) means that no other source was ready. Wait returns when
	// there is an event, when the timeout expires, or after Wake. It may return
	// early with no event and a nil error, or with EINTR. A zero timeout does not
	// block but still collects ready events. A negative timeout waits
	// indefinitely. A positive timeout is rounded up to the queue's resolution and
	// may be cut to the longest that the queue can represent.
	Wait(dst []Event, timeout time.Duration) (int, error)

	// Wake ends the Wait in progress or, if there is none, the next Wait that
	// would block.
	Wake() error

	// Close releases the queue and every descriptor it owns.
	Close() error
}

// Pollable is implemented by a queue whose descriptor becomes readable when the
// queue has events, if Go's runtime can watch that descriptor. A Poll on such a
// queue parks its goroutine and holds no thread while it waits.
type Pollable interface {
	// Descriptor returns the descriptor, which is valid from Open to Close. The
	// backend keeps ownership.
	Descriptor() int

	// SetWatched tells the queue whether the runtime watches the descriptor. While the
	// runtime watches it, a change may have to wait for a lock in the kernel.
	SetWatched(watched bool)
}

// Inspector is implemented by a queue that may lose a report that a file makes only once.
// Polling such a file takes the report away, so the next poll finds nothing: a perf event
// and /proc/self/mounts are such files. The queue loses a report if changing a registration
// polls the file, or if anything else polls the queue.
type Inspector interface {
	// Inspect returns whether h may be such a file and, if so, which conditions of in
	// it reports now. It returns false if h is not what is registered under k. It is
	// called like Modify: for a registration of a kind that the core does not know,
	// once after Add, and then before each Modify. The core delivers what Inspect
	// returns, and lets nothing else poll the queue.
	Inspect(h Handle, k Key, in Interest) (once bool, ready Readiness)
}

// EdgeEmulator is implemented by a queue without Edge in its Capabilities, whose
// kernel does not report that a condition came back. It can emulate Edge for
// sources that report when an operation would have blocked, such as those of
// package socket. For these sources, Add and Modify accept Edge.
type EdgeEmulator interface {
	// Rearm makes the queue report the conditions in of h again when they hold. It is
	// called like Modify. It does nothing if h is not watched, or not with Edge.
	Rearm(h Handle, in Interest)
}

// Quiescer is implemented by a queue of a simulated world, which lets a Poll look for
// events only while everybody else is at rest. So the order of events does not depend on
// how goroutines are scheduled. A Quiescer is not Pollable and not an Inspector.
type Quiescer interface {
	// WaitQuiet waits until the world is at rest and the queue has an event, timeout has
	// passed, awake returns true, or Wake was called. A zero timeout waits only for the
	// rest; a negative timeout waits indefinitely. WaitQuiet may return early. If it
	// returns an error, Poll fails with it; otherwise the core then collects with a Wait
	// of timeout zero, before which the world must not move.
	//
	// awake reports whether the core has a reason not to wait. WaitQuiet calls it at rest,
	// before it waits, from any goroutine, but not after it has returned. The core calls
	// WaitQuiet as it calls Wait.
	WaitQuiet(timeout time.Duration, awake func() bool) error
}

// ProcessWatcher is implemented by a queue that can report the end of a process.
// For other queues, the core uses what the system offers.
type ProcessWatcher interface {
	// WatchProcess reports ReadyReadable under k, once, when process pid has ended,
	// even if it ended before the call. It does not reap the process, and the event
	// comes even if the process is reaped first. It watches the process that has
	// this PID at the time of the call, never one that is given the PID later. The
	// PID is positive and fits in 31 bits.
	//
	// It returns os.ErrProcessDone if there is no such process, or if the process has ended
	// and the system no longer watches it; the core finds out which. (Windows still watches
	// an ended process while a handle to it is open.) It returns fs.ErrExist if the queue
	// already watches this PID and cannot watch it twice. After fs.ErrExist or
	// errors.ErrUnsupported, the core watches the process in another way.
	//
	// WatchProcess and UnwatchProcess are called like Add and Delete.
	WatchProcess(pid int, k Key) error

	// UnwatchProcess undoes one successful WatchProcess and releases what it holds.
	// It is called at most once for each, before or after the event. Close releases
	// what is still watched.
	UnwatchProcess(pid int, k Key) error
}

// Handle identifies something to watch: a descriptor on Unix, a SOCKET or HANDLE
// on Windows.
type Handle uintptr

// Key identifies a registration. The core makes it, and the backend returns it
// unchanged with every event. The core never uses zero, so a backend may use it
// for itself.
type Key uint64

// Event reports that the registration identified by Key is ready.
type Event struct {
	Key   Key
	Ready Readiness
}

// Capabilities describes what a queue supports on this system.
type Capabilities struct {
	// Interests has every bit that Add accepts. The core answers other bits with
	// errors.ErrUnsupported.
	Interests Interest
	// Resolution is the unit that timeouts are rounded up to.
	Resolution time.Duration
	// OneThread reports whether the queue belongs to the thread of the first Wait.
	// A Wait on another thread returns ErrWrongThread. Changes are allowed on every
	// thread. A Delete takes effect before it returns if that thread calls it or waits in
	// Wait. Otherwise closing the handle takes effect with the Wait that is about to find
	// events, or with the next one.
	OneThread bool
}
