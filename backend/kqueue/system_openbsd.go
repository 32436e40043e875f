package kqueue

import (
	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/kq"
)

// OpenBSD's user events are new: a pipe does for all.
var system = kq.System{
	Name: "openbsd", Read: unix.EVFILT_READ, Write: unix.EVFILT_WRITE, Proc: unix.EVFILT_PROC,
	Except: unix.EVFILT_EXCEPT, OOB: unix.NOTE_OOB, HasExcept: true,
}
