// Package backend is the contract between Epore's core and the event queues
// of the operating systems, and the vocabulary that both speak.
//
// A backend translates; it decides nothing. It hands a change to its kernel,
// waits, turns the kernel's bits into [Readiness], and returns. Deadlines,
// interrupted system calls, the single waiter, stale events, duplicate
// descriptors and the order of closing are the core's business, stated once in
// package epore for every backend. To write one, see docs/porting.md; to
// check one, call backendtest.Run.
package backend

import "time"

// Backend is one kind of event queue: one kernel object, or what stands for it.
//
// The core keeps these promises, so a backend needs no lock for them:
//   - Open is called first and once, and Close last and once; when Open fails,
//     nothing else is called;
//   - Add, Modify and Delete come one at a time, from any goroutine, beside at
//     most one Wait, whose return they must not wait for;
//   - Wake comes from any goroutine, beside everything but Open and Close;
//   - the interest was checked: something to wait for, modes that go together,
//     and nothing outside Capabilities().Interests.
//
// Errors unwrap to the system's errno, and to what is named here.
type Backend interface {
	// Name is short and constant: "epoll", "pollfd".
	Name() string

	// Open acquires the queue. A refusal names the likely cause and the way out.
	Open(Config) error

	// Capabilities tells what this queue can do on this system. Valid after Open.
	Capabilities() Capabilities

	// Add starts watching h. When h is already watched, it returns an error that
	// is fs.ErrExist and changes nothing; this is exact also after h was closed
	// and its number reused. What can never become ready gives ErrNotPollable.
	Add(h Handle, k Key, in Interest) error

	// Modify replaces key, interest and mode of a watched handle and arms it
	// again: if it is ready now, an event follows. fs.ErrNotExist if h is not
	// watched, ErrLost if it no longer is; after any other error it is watched as
	// before.
	Modify(h Handle, k Key, in Interest) error

	// Delete stops watching h, at once: closing h then takes effect without a
	// further Wait. fs.ErrNotExist if h is not watched.
	Delete(h Handle) error

	// Wait stores at most len(dst) > 0 events in dst and says how many; fewer
	// than that means that no more were ready. It returns when there is one, when
	// the timeout is over, or after a Wake; it may also return early with none,
	// or with EINTR. Zero never blocks and still collects what is ready; negative
	// waits for ever. A positive timeout is rounded up to the resolution of the
	// queue, or cut to what it can hold.
	Wait(dst []Event, timeout time.Duration) (int, error)

	// Wake ends the Wait in progress, or else the next one that would block.
	Wake() error

	// Close releases the queue and every descriptor it owns.
	Close() error
}

// Config is what a backend may want to know when it opens.
type Config struct {
	// Blocking says that every Wait blocks one and the same thread, in the kernel.
	Blocking bool
}

// Pollable is the optional power of a queue that is itself a descriptor that
// becomes readable when the queue has events, and that Go's runtime can watch:
// a Poll on it parks its goroutine and holds no thread while it waits.
type Pollable interface {
	// Descriptor is valid from Open to Close and stays the backend's own.
	Descriptor() int
}

// Flusher is the optional power of a Pollable queue that hands changes to its
// kernel with the next Wait.
type Flusher interface {
	// Flush is called after the last look before the goroutine parks, by the one
	// that waits. Changes made so far must reach the kernel now, and later ones at
	// once, until the next Wait.
	Flush() error
}

// EdgeEmulator is the optional power of a queue that has no Edge in its Capabilities,
// because its kernel does not tell that a condition came back, but can do it for a
// source that says when an operation would have blocked: the sockets of package
// socket do. For those Add and Modify accept Edge.
type EdgeEmulator interface {
	// Rearm has the conditions in of h reported anew when they hold. It is a change
	// like Modify: one at a time, beside at most one Wait. For what is not watched, or
	// not with Edge, it does nothing.
	Rearm(h Handle, in Interest)
}

// ProcessWatcher is the optional power of a queue that can tell of the end of a process
// by itself. Without it, the core does so with what the system has.
type ProcessWatcher interface {
	// WatchProcess has a Wait report ReadyReadable under k, once, when process pid, a
	// positive number of 31 bits, has ended; also if it ended before this call. It is
	// left to be waited for, and whether anybody does so before the event does not
	// matter. Nothing but the process at the time of the call is meant, whatever gets
	// its number later.
	//
	// os.ErrProcessDone says that there is no such process, or that it has ended and
	// this system does not watch it any more: the core finds out which. (Windows knows
	// an ended process for as long as anybody has a handle of it; then it is watched.) fs.ErrExist,
	// that this queue watches the number already and cannot do so twice, and
	// errors.ErrUnsupported: the core takes another way.
	//
	// It and UnwatchProcess come as Add and Delete do.
	WatchProcess(pid int, k Key) error

	// UnwatchProcess ends that, and releases what it holds. It comes once for each
	// WatchProcess that succeeded, before Close, also after the event; or not at all,
	// when Close comes first and releases that, too.
	UnwatchProcess(pid int, k Key) error
}

// Handle is what the system calls a thing that can be watched: a descriptor
// on Unix, a SOCKET or HANDLE on Windows.
type Handle uintptr

// Key names one registration: made by the core, returned with every event,
// opaque to the backend. Zero is never a registration: it is free for the
// backend's own use.
type Key uint64

// Event says that the registration named by Key is ready.
type Event struct {
	Key   Key
	Ready Readiness
}

// Capabilities is what a queue can do on the system it runs on.
type Capabilities struct {
	// Interests has every bit that Add accepts. Others are errors.ErrUnsupported.
	Interests Interest
	// Resolution is the unit that timeouts are rounded up to.
	Resolution time.Duration
	// OneThread says that the queue belongs to the thread of the first Wait.
	// Waiting on another one is ErrWrongThread. Changes may come from any thread,
	// also beside a Wait; but a Delete from another one, while the owner is not in
	// Wait, lets closing take effect with the next Wait only.
	OneThread bool
}
