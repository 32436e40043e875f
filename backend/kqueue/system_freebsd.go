package kqueue

import (
	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/kq"
)

// FreeBSD has no filter for urgent data.
var system = kq.System{
	Name: "freebsd", Read: unix.EVFILT_READ, Write: unix.EVFILT_WRITE, Proc: unix.EVFILT_PROC,
	User: unix.EVFILT_USER, HasUser: true,
}
