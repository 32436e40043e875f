package kq

import "golang.org/x/sys/unix"

// OpenBSD has had user events for a short time only; a pipe serves all versions.
var system = System{
	Name: "openbsd", Read: unix.EVFILT_READ, Write: unix.EVFILT_WRITE, Proc: unix.EVFILT_PROC,
	Except: unix.EVFILT_EXCEPT, OOB: unix.NOTE_OOB, HasExcept: true,
}
