// Package kqsim is a kqueue for tests on Linux: [kq.Kernel] on real descriptors,
// with what differs between FreeBSD, NetBSD, OpenBSD, DragonFly and macOS. A
// backend that passes on all five profiles has met the differences that are known;
// it has not met the kernels.
//
// The knotes, their modes, the order of events, and the errors are made here. What
// a descriptor is ready for, poll(2) says, at the moment when an event is
// delivered; epolls, one for each filter, only tell what to look at again. They
// also know whether a number still stands for the file that it did: that is asked
// when a change names it, and before an event of it is delivered. So a number that
// was closed, and then given to the same open file again by dup2, is not noticed if
// nothing was asked in between. The same goes for a regular file opened twice.
//
// What Linux does not tell is approximated:
//
//   - The error of a socket, in fflags, cannot be had without taking it from the
//     application. That there is one is known; it is given as ECONNREFUSED for a
//     TCP socket that never was connected, and as ECONNRESET otherwise.
//   - The local shutdown of the write side is seen on TCP and on Unix streams; not
//     on other sockets, and on a Unix stream whose buffer is full only when
//     something else happens to it.
//   - Pending connections are counted on TCP; on other listeners there is 1.
//   - The room in data of a write event is roughly what it is.
//   - Regular files are looked at when Kevent begins, so that growth does not wake a
//     waiter.
//   - EVFILT_EXCEPT knows NOTE_OOB only, on sockets, and an edge may come once more
//     with ordinary data, as long as the urgent byte was not read.
//
// Kernels make a one-shot knote of one whose file will never change again (a pipe to
// write whose reader has gone, while it was watched): that is not done here.
//
// A queue is closed with Close, not through its number.
//
// Of processes there is the exit (NOTE_EXIT), without a status in data, and seen when a
// process can be waited for; kernels may tell it a moment before.
//
// There are no timers, signals, vnode events, NOTE_LOWAT, EV_UDATA_SPECIFIC and no
// inheritance by fork.
package kqsim
