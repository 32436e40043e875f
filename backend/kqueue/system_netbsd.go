package kqueue

import (
	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/kq"
)

// NetBSD counts its filters from zero, and has none for urgent data. User events came
// with NetBSD 10: a pipe does for all.
var system = kq.System{Name: "netbsd", Read: unix.EVFILT_READ, Write: unix.EVFILT_WRITE, Proc: unix.EVFILT_PROC}
