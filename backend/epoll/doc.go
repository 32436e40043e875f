// Package epoll is the backend for Linux's epoll(7), the default there.
//
// # What it supports
//
// Every mode of the contract: level-triggered, edge-triggered (EPOLLET), one-shot
// (EPOLLONESHOT), exclusive (EPOLLEXCLUSIVE), and urgent data (EPOLLPRI). Exclusive
// works neither with one-shot nor with Priority. It does not report ReadClosed as an
// early hint, because the kernel does not accept EPOLLRDHUP together with
// EPOLLEXCLUSIVE. Timeouts are exact to the nanosecond where the kernel has epoll_pwait2
// (Linux 5.11), and otherwise rounded up to the millisecond.
//
// # Limitations
//
// epoll watches open file descriptions, not descriptor numbers. When a registered
// descriptor is closed while a duplicate of it lives on (dup, fork, a descriptor passed
// to another process), the kernel keeps the registration, and its number no longer
// reaches it. The core drops the events of such a registration, but a level-triggered
// one keeps waking a blocking wait. So deregister before closing.
//
// Changes, and waits without a timeout, are raw system calls, which Go's scheduler does
// not know about. They do not block, and telling the scheduler costs 60 ns, where the
// shortest system call takes 190 ns. The only known exception is a file that a FUSE
// daemon serves: a request for its readiness waits for the daemon. Do not register such
// a file in the process of the daemon itself.
package epoll
