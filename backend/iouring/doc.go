// Package iouring is the backend for Linux's io_uring(7), which watches by poll
// requests: the same contract as epoll's, for fewer system calls. It needs
// Linux 5.13.
//
//	p, err := epore.NewWith(iouring.New())
//
// makes a Poll on it; the build tag iouring makes it the default of epore.New.
//
// # Two gears
//
// With [github.com/epore/epore.Park], the default strategy, the ring is shared:
// any goroutine polls and registers, on any thread. With Block the ring is owned
// by one thread, the one of the first Poll (IORING_SETUP_SINGLE_ISSUER and
// DEFER_TASKRUN, Linux 6.1; before that it is shared here, too). That is the fast
// one: changes and waiting are one system call, and the kernel interrupts
// nobody. The goroutine that polls must be locked to its thread
// (runtime.LockOSThread): a Poll on another thread fails with
// [github.com/epore/epore/backend.ErrWrongThread], for good if the first one has
// ended. Registering is for every goroutine, in both gears, also while the Poll
// waits. Capabilities().OneThread tells which gear it is.
//
// # What it can do
//
// Level, edge, one-shot and urgent data: edge by a request for many events, which
// the kernel may end and this package then makes again; level and one-shot by
// requests for one, which travel with the next wait. Timeouts are exact to the
// nanosecond. Not Exclusive: a request takes the one wake-up also when nobody
// waits on its ring, and another ring, whose owner does wait, would get none.
// There, give each Poll a listener of its own (SO_REUSEPORT).
//
// Registering makes no request yet, unless a Poll is waiting: it asks the kernel
// who the file is, and the next wait takes along all that was registered since. So
// errors of the kernel about a request are those of a Poll; the registration stays
// and is tried again.
//
// # What to know
//
// A poll request holds the open file, not its number. When a registered
// descriptor is closed first, its peer sees nothing of it until the Poll is
// closed, or the number registered or deregistered again. Deregister cancels the
// request, and after it no event comes in any case; when the file is let go
// depends on the gear. Owned: before Deregister returns, which for that has a
// sleeping owner come; but from another goroutine, while the owner handles events,
// with the next Poll. Shared: when the thread that made the request comes round
// to it, see below. So: deregister before closing, and with Block in the loop. A
// Poll that is closed lets its sources go before Close returns if that is called
// on the owner's thread, or made all the requests, and a few milliseconds later
// else.
//
// A request is made for the number, when a wait takes it along, and for
// level-triggered ones anew after each event. If a registered descriptor is closed
// before, and its number reused, the new file is watched under the old
// registration, until its number is registered or deregistered; a file that is
// always ready then ends every Poll.
//
// A request tells what happened, not what is. Level-triggered and one-shot
// events are looked at again before they are reported if they are older than the
// wait, and edges if the wait before reported the same source, which so was just
// being read. An edge of a source that was read later than that may be reported
// for nothing, and the read says "would block".
//
// In the shared gear, requests belong to the thread that handed them in, and are
// completed, and after a Deregister let go, on it. Mostly that takes it
// microseconds, sleeping or not; so a Poll without a timeout may miss what became
// ready just before. But while it sleeps in a way that nothing interrupts, as when
// it starts a process (until that process has begun its program) or waits for a
// disk, its requests wait, too. If it ends, the kernel cancels them; they are made
// again, and an edge that was not drained may then be reported a second time.
//
// Which file a number is, sockets tell by a number of their own that is never used
// again (SO_COOKIE). For files of other kinds this package keeps an epoll that
// nobody waits on: registering them costs what it costs there, and the first of
// them one descriptor.
//
// The rings, 28 KiB with the default [WithEntries], are counted against
// RLIMIT_MEMLOCK by many kernels, except for root: 8 MiB are enough for some 290
// Polls, and the kernel takes its time to give back those of closed ones.
//
// io_uring is often forbidden: by the sysctl kernel.io_uring_disabled, by the
// seccomp filters of container engines. Open then fails with an error that is
// errors.ErrUnsupported and tells why. There is no silent way back to epoll.
package iouring
