// Package kqueue is the backend for kqueue(2): macOS, FreeBSD, NetBSD, OpenBSD and
// DragonFly, where it is the default.
//
// # What it can do
//
// Level, edge (EV_CLEAR), one-shot, and urgent data where the kernel tells of it
// (EVFILT_EXCEPT: macOS, OpenBSD, DragonFly). Timeouts are given in nanoseconds, and as
// exact as the kernel's clock. Not Exclusive. A waiting Poll holds its thread, whatever its strategy: the Go runtime
// watches descriptors for reading and for writing, and a kqueue can be watched for
// reading only.
//
// The end of a process (EVFILT_PROC) needs no descriptor. Kernels may tell it a moment
// before the process can be waited for.
//
// Each condition is a knote of its own in the kernel; what they say in one wait comes
// as one event. A registration that has had its one shot keeps its knotes, disabled, so
// that it is the kernel which knows that it is registered.
//
// # What to know
//
// Closing a descriptor ends its registration, also when a duplicate of it is open.
//
// Whether a descriptor is registered, the kernel is asked by enabling a knote that is
// enabled. On most systems that reports readiness anew: a second Register, which fails
// with fs.ErrExist, may have an edge of the first one repeated.
//
// A kernel tells the pending error of a socket with the end of its stream (EV_EOF). An
// error without an end, that of a datagram socket, is Readable only: reading says what it
// is. ReadClosed comes with Readable, WriteClosed with Writable; a socket whose writing
// half was closed here is WriteClosed, which epoll does not tell.
//
// Kernels refuse to watch a pipe for writing that nobody reads any more. Such a
// registration has its events (WriteClosed) from this package, and a disabled knote for
// reading, by which the kernel knows it.
//
// What a kernel does not take, as some versions of macOS FIFOs and terminals, is
// ErrNotPollable.
package kqueue
