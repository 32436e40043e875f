// Package pollfd is the backend for poll(2), which every Unix has: for systems
// that no other backend is for (illumos, Solaris, AIX), and to compare others with,
// since there is no simpler one.
//
//	p, err := epore.NewWith(pollfd.New())
//
// makes a Poll on it; the build tag pollfd makes it the default of epore.New.
//
// # What it can do
//
// Level, one-shot and urgent data (POLLPRI). Timeouts are exact to the nanosecond on
// Linux, and rounded up to the millisecond elsewhere.
//
// Not Edge: poll tells what is, not what happened. A source that was drained and has
// new data looks to it like one that nobody touched, and for the first an event must
// come, and for the second none may. Not Exclusive. A waiting Poll holds its thread,
// whatever its strategy: an array is no descriptor that a goroutine could be parked on.
//
// # What it costs
//
// Each wait hands the whole array to the system, which asks every file in it: 75 to
// 150 ns for each registered socket, ready or not, on the machine that we measured
// (docs/benchmarks.md). A look that finds one of them ready takes 2 times as long as
// on epoll if it is the only one, 5 times with 30 registered, some 12 times with 100 (9 µs),
// more than 100 times with 1,000 (90 µs), and more than 1,000 times with 9,000 (1 ms). From a
// few hundred on, it is most of what a program does.
//
// A change by another goroutine, while a Poll waits, calls that back: the system has
// the array, and holds its files open. So it costs a change of thread, and the wait
// begins anew.
//
// # What to know
//
// poll(2) keeps no account of what is registered, so this package does. Descriptors
// that were closed without Deregister are dropped when a wait comes upon them. Every
// event is held against the account before it is reported, so that the new owner of a
// number is not taken for the one before. On Linux that is exact (SO_COOKIE for
// sockets, and for other files an epoll that nobody waits on, which costs the first of
// them one descriptor). One case is not: a number that is put over by dup2 while it is
// registered, registered again, and then gets its first file back by dup2: that one's
// events come under the second one's token.
//
// Elsewhere it is fstat that tells files apart, and it is as exact as the system's
// inode numbers are. illumos has 16 bits for sockets, made from an address that the
// next socket mostly gets. There, a socket that was closed without Deregister and the
// next one under its number may be taken for the same: Register then says
// fs.ErrExist (Reregister helps), or the old token is reported for the new socket. So:
// deregister before closing.
//
// ReadClosed when the peer only half-closes is told on Linux; on other systems it
// needs both directions to be down, and reading to find out before that.
//
// A Poll that sleeps holds what it watches open: a descriptor that is closed without
// Deregister is open to its peer until that Poll wakes.
//
// An array may have as many elements as a process may have descriptors
// (RLIMIT_NOFILE). What was closed without Deregister has its place in it until the
// next wait.
package pollfd
