package kq

import "golang.org/x/sys/unix"

// NetBSD numbers its filters from zero, and has none for urgent data. User events exist since
// NetBSD 10; a pipe serves all versions.
var system = System{Name: "netbsd", Read: unix.EVFILT_READ, Write: unix.EVFILT_WRITE, Proc: unix.EVFILT_PROC, SilentFullPipe: true}
