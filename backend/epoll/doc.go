// Package epoll is the backend for Linux's epoll(7), the default there.
//
// # What it can do
//
// Every mode of the contract: level, edge (EPOLLET), one-shot (EPOLLONESHOT),
// exclusive (EPOLLEXCLUSIVE, not together with one-shot or Priority, and then
// without ReadClosed as an early hint: the kernel accepts no EPOLLRDHUP beside
// it), and urgent data (EPOLLPRI). Timeouts are exact to the nanosecond where
// the kernel has epoll_pwait2 (5.11), and rounded up to the millisecond where
// it has not.
//
// # What to know
//
// epoll watches open file descriptions, not descriptor numbers. When a
// registered descriptor is closed while a duplicate of it lives on (dup, fork,
// a descriptor passed to another process), the kernel keeps the registration,
// and its number no longer reaches it. Its events are dropped by the core, but
// a level-triggered one keeps waking a blocking wait. So: deregister before
// closing.
//
// Changes and waits without a timeout are made as raw system calls, without
// telling Go's scheduler: they do not block, and telling it costs 60 ns, where
// the shortest system call takes 190. The exception known to us is a file
// served by a FUSE daemon: asking for its readiness waits for the daemon. Do
// not register such files in the daemon's own process.
package epoll
