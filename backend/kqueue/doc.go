// Package kqueue implements a queue on kqueue(2). It is the default queue on macOS,
// FreeBSD, NetBSD, OpenBSD and DragonFly.
//
// # Capabilities
//
// The queue supports level-triggered, edge-triggered (EV_CLEAR) and one-shot
// registrations. It reports urgent data where the kernel does (EVFILT_EXCEPT: macOS,
// OpenBSD, DragonFly). It does not support Exclusive. Timeouts are passed to the kernel in
// nanoseconds, and are as exact as its clock.
//
// A waiting Poll holds its thread, whatever its strategy: the Go runtime watches
// descriptors for reading and for writing, and a kqueue can be watched for reading only.
//
// The queue watches a process (EVFILT_PROC) without a descriptor. A kernel may report
// the end of a process a moment before the process can be reaped.
//
// Each condition is a separate knote in the kernel. What the knotes of a registration
// report in one wait is returned as one event. A one-shot registration that has had its
// event keeps its knotes, disabled, so that the kernel knows that it is registered.
//
// # Behavior to know
//
// Closing a descriptor ends its registration, even if a duplicate of it is open.
//
// To find out whether a descriptor is registered, this package enables a knote that is
// enabled. On most systems that reports readiness again: when a second Register fails
// with fs.ErrExist, an edge of the existing registration may be repeated.
//
// A kernel reports the pending error of a socket together with the end of its stream
// (EV_EOF). An error without an end, such as that of a datagram socket, is reported as
// Readable only; the next read returns it. ReadClosed comes with Readable, and
// WriteClosed with Writable. A socket that was shut down for writing locally is reported
// as WriteClosed, which epoll does not do.
//
// Kernels refuse to watch the writing end of a pipe without a reader. For such a
// registration this package makes the events (WriteClosed) itself, and the kernel knows
// it by a disabled knote for reading. NetBSD does not report to the writer of a full pipe
// that its reader has gone; there, a second knote, for reading, reports it.
//
// A descriptor that the kernel does not take is ErrNotPollable. Some versions of macOS do
// not take FIFOs and terminals.
package kqueue
