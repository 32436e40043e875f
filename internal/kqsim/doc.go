// Package kqsim simulates kqueue on Linux for tests. It implements [kq.Kernel] on real
// descriptors, with the differences between FreeBSD, NetBSD, OpenBSD, DragonFly and macOS.
// A backend that passes on all five profiles has met the known differences; it has not
// met the kernels.
//
// This package implements the knotes, their modes, the order of events, and the errors.
// What a descriptor is ready for comes from poll(2), at the moment when an event is
// delivered. One epoll instance for each filter reports only which knotes to look at
// again. The epoll instances also tell whether a number still stands for the same file.
// They are asked when a change names the number, and before an event of it is delivered.
// So it goes unnoticed when a number is closed and dup2 then gives it to the same open file
// again, if nothing was asked in between. The same is true of a regular file that is opened
// twice.
//
// What Linux does not report is approximated:
//
//   - The error of a socket, in fflags, cannot be read without taking it from the
//     application. Whether there is one is known. It is reported as ECONNREFUSED for a
//     TCP socket that never was connected, and as ECONNRESET otherwise.
//   - A local shutdown of the writing side is noticed on TCP and on Unix streams, not on
//     other sockets. On a Unix stream whose buffer is full, it is noticed when something
//     else happens to the stream.
//   - Pending connections are counted on TCP; other listeners always report 1.
//   - The room in data of a write event is an estimate.
//   - Regular files are looked at when Kevent begins, so their growth does not wake a
//     waiter.
//   - EVFILT_EXCEPT supports NOTE_OOB only, on sockets. As long as the urgent byte was not
//     read, ordinary data may repeat an edge.
//
// Kernels turn a knote into a one-shot one when its file will not change any more (the
// writing end of a pipe whose reader goes while it is watched). This package does not.
//
// A queue must be closed with Close, not through its number.
//
// Of the events of processes only the exit is simulated (NOTE_EXIT), without a status in
// data. It is noticed when the process can be reaped; kernels may report it a moment
// earlier.
//
// Not simulated: timers, signals, vnode events, NOTE_LOWAT, EV_UDATA_SPECIFIC, and what
// fork does to a queue.
package kqsim
