// Package iouring is the backend for Linux's io_uring(7). It watches descriptors
// by poll requests, and keeps the same contract as package epoll with fewer system
// calls. It needs Linux 5.13.
//
//	p, err := epore.NewWith(iouring.New())
//
// opens a Poll on it. The build tag iouring makes it the default of epore.New.
//
// # When to use it
//
// Use it for busy loops: each on one goroutine, with many sources that have events
// at the same time. There an edge-triggered event costs about half of what it costs
// on epoll, since the kernel appends it to a list that the program reads from shared
// memory.
//
// Do not use it for loops that mostly wait. A waiting Poll blocks its thread in the
// kernel, as [github.com/epore/epore.Block] does on epoll, and Go's scheduler has to
// hand over that thread for each wait. A single pair of goroutines that play
// ping-pong takes 17 times as long as on epoll with
// [github.com/epore/epore.Park]. For the same reason a program with thousands of
// Polls should use epoll: on io_uring each takes a thread.
//
// # One goroutine
//
// The ring belongs to the goroutine that polls first. That Poll locks the goroutine
// to its thread (runtime.LockOSThread) until the Poll is closed; a lock of the
// caller's does no harm. From any other goroutine, Poll returns
// [github.com/epore/epore/backend.ErrWrongThread]. If the first goroutine ends,
// nobody can poll any more. Everything else may be called from any goroutine at any
// time.
//
// Before Linux 6.1 the kernel does not enforce this; the package does, so that a
// program behaves the same everywhere. Waiting is slower there, since the kernel
// interrupts the thread for each event.
//
// # What it can do
//
// Level, edge, one-shot and urgent data. Timeouts are exact to the nanosecond. It has
// no Exclusive: a poll request takes the one wake-up even if nobody waits on its ring,
// and another ring, on which somebody does wait, would get none. Give each Poll a
// listener with SO_REUSEPORT instead.
//
// Register makes no poll request, unless a Poll is waiting. It asks the kernel which
// file the descriptor is, and the next Poll makes the requests for all that was
// registered since. An error of the kernel about a request is therefore an error of
// that Poll; the registration stays and is tried again.
//
// # Closing
//
// A poll request holds the open file, not its number. If you close a registered
// descriptor, its peer sees nothing of that, and a listener's address stays in use,
// until the number is registered or deregistered again or the Poll is closed. So
// deregister before closing, as the sockets of package socket do in their Close.
// Deregister cancels the request. It returns when the kernel has let go of the file
//   - if the goroutine that polls calls it, or
//   - if that goroutine is waiting in Poll: it is called back for this, which takes a
//     switch of threads and does not end its Poll.
//
// One case remains: another goroutine calls Deregister, or Close, while the one that
// polls handles events, or has just called Poll and has events to collect. Then the
// kernel lets go with the next Poll, because only the owner of the ring can cancel a
// request, and to wait for it could be a deadlock. In this case, to listen on an address
// again right away, close the listener on the goroutine that polls: send it there
// through a Mailbox.
//
// Register and Reregister never wait for the goroutine that polls, and Deregister waits
// for it only as described above: a loop that is always busy does not hold them up, even
// if it has to wait for a processor.
//
// Closing the Poll lets go of its sources before Close returns if the goroutine that
// polls calls it, and a few milliseconds later otherwise.
//
// If a registered descriptor is closed without Deregister and its number is reused
// before the next Poll, the new file is watched under the old registration until its
// number is registered or deregistered. The same holds if the old file was
// level-triggered and was reported by the last Poll.
//
// # What an event means
//
// A request says what happened, not what is true now. Level-triggered and one-shot
// events that are older than the current Poll are checked before they are reported,
// and so are edges of a source that the previous Poll reported, since it was just
// being read. An edge of a source that was read later than that may be spurious: the
// read returns "would block".
//
// Polling some files takes away what they say: perf events, /proc/self/mounts, and
// whatever is not known to keep its state. Such a file is polled by its request only,
// unless it is level-triggered and was just reported, and every answer is reported.
// It is recognized by device and inode. If it is closed without Deregister and another
// open file of the same inode gets its number, Register says fs.ErrExist.
//
// # Limits
//
// Sockets are recognized by a number that the kernel never uses again (SO_COOKIE).
// For other files the package keeps an epoll that nobody waits on: registering them
// costs what it costs there, and the first of them takes a descriptor.
//
// Many kernels count the rings, 28 KiB with the default [WithEntries], against
// RLIMIT_MEMLOCK, except for root. A limit of 8 MiB allows some 290 Polls; the kernel
// takes a while to give back those of closed ones.
//
// io_uring is often forbidden: by the sysctl kernel.io_uring_disabled, or by the
// seccomp filters of container engines. Open then fails with an error that is
// errors.ErrUnsupported and names the cause. The package never falls back to epoll by
// itself.
package iouring
