// Package pollfd implements a queue on poll(2), which every Unix has. It is the default
// queue on systems that have no better one (illumos, Solaris, AIX). It also serves as
// the reference to compare other queues with, because it is the simplest.
//
//	p, err := epore.NewWith(pollfd.New())
//
// creates a Poll on it. The build tag pollfd makes it the default of epore.New.
//
// # Capabilities
//
// The queue supports level-triggered and one-shot registrations, and urgent data
// (POLLPRI). Timeouts are exact to the nanosecond on Linux, and rounded up to the
// millisecond elsewhere.
//
// It does not support Edge: poll(2) reports the state of a source, not what happened to
// it. A source that was drained and then received data looks the same as a source that
// nobody touched. The first must have an event, and the second must not. It does not
// support Exclusive.
//
// A waiting Poll holds its thread, whatever its strategy: an array is not a descriptor
// that the Go runtime could watch.
//
// # Cost
//
// Each wait passes the whole array to the system, which asks every file in it. That takes
// 75 to 150 ns for each registered socket, ready or not, on the machine of
// docs/benchmarks.md. Compared with epoll, a look that finds one ready socket takes 2
// times as long if it is the only one registered, 5 times with 30 registered, about 12
// times with 100 (9 µs), more than 100 times with 1,000 (90 µs), and more than 1,000 times
// with 9,000 (1 ms). From a few hundred on, it is most of what a program does.
//
// A change by another goroutine wakes a waiting Poll, because the system has the array: the
// wait begins again. Deregister also waits for a change of thread, because the system holds
// the files of the array open until the waiting thread has run.
//
// On Linux, a wait with a timeout of 10 ms or more takes one more system call, and the first
// such wait opens one descriptor: the timeout is a timer in the array, which is not late if
// the process is stopped and continued meanwhile.
//
// # Behavior to know
//
// poll(2) keeps no record of registrations, so this package does. A descriptor that was
// closed without Deregister is dropped when a wait meets it. Before an event is reported,
// the record is consulted, so that the new owner of a descriptor number is not taken for
// the previous one.
//
// On Linux the record is exact. It uses SO_COOKIE for sockets, and for other files an
// epoll instance that nobody waits on, which the first of them creates; it is one
// descriptor. Where SO_COOKIE is missing (Linux before 4.12, emulators, sandboxes), the inode
// numbers of sockets serve; the kernel uses one again after 2^32 others. There is one
// exception: a number is registered, dup2 puts another file over
// it, that is registered, and dup2 brings the first file back. Events of the first file
// then come under the token of the second.
//
// On macOS and the BSDs the record is exact, too. It is a kqueue that nobody waits on, which
// the first registration opens. The few devices that a kqueue does not take are told apart by
// fstat(2).
//
// On other systems the record uses fstat(2) for everything, and is as exact as the inode
// numbers of the system are. illumos has 16 bits for those of sockets, made from an address
// that the next socket often gets. There, a socket that was closed without Deregister and
// the next one with its number may be taken for the same: Register returns fs.ErrExist
// (Reregister helps), or the old token is reported for the new socket. Deregister before
// closing. The sockets of package socket are not concerned: their Close deregisters them.
//
// ReadClosed for a peer that only half-closes is reported on Linux and on newer versions of
// FreeBSD (POLLRDHUP). Other systems report it when both directions are down; before that,
// the source is Readable, and a read finds the end.
//
// FreeBSD and NetBSD do not report Error for sockets. A socket whose connection was refused
// or reset is ready for what was requested, with or without ReadClosed and WriteClosed, and
// the next operation returns the error. On DragonFly, a pipe whose reader has gone is not
// reported at all: neither Writable nor a hint.
//
// While a Poll sleeps, the system holds what it watches open: a descriptor that was closed
// without Deregister stays open to its peer until the Poll wakes.
//
// An array may have as many elements as a process may have descriptors (RLIMIT_NOFILE).
// A descriptor that was closed without Deregister keeps its element until the next wait.
package pollfd
