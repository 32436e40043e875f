package kq

import "golang.org/x/sys/unix"

var system = System{
	Name: "darwin", Read: unix.EVFILT_READ, Write: unix.EVFILT_WRITE, Proc: unix.EVFILT_PROC,
	User: unix.EVFILT_USER, HasUser: true,
	Except: unix.EVFILT_EXCEPT, OOB: unix.NOTE_OOB, HasExcept: true,
}
