package kq

import "golang.org/x/sys/unix"

// FreeBSD has no filter for urgent data.
var system = System{
	Name: "freebsd", Read: unix.EVFILT_READ, Write: unix.EVFILT_WRITE, Proc: unix.EVFILT_PROC,
	User: unix.EVFILT_USER, HasUser: true,
}
