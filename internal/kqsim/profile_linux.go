package kqsim

import (
	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/kq"
)

// Profile is one system: what its kqueue does otherwise than others.
type Profile struct {
	// Name is the GOOS.
	Name string

	sys kq.System

	// noReceipt and noDispatch: the flag is silently ignored.
	noReceipt, noDispatch bool
	// overruns: errors of changes are written past the room for events.
	overruns bool
	// errorKeepsFlags: an EV_ERROR event has the flags of its change, too.
	errorKeepsFlags bool
	// eventDropsActions: events do not carry EV_ADD and the like.
	eventDropsActions bool
	// touches: any change of an existing knote brings new fflags and udata, not
	// only EV_ADD.
	touches bool
	// sleepyEnable: EV_ENABLE does not look whether the condition holds, but only
	// whether something happened.
	sleepyEnable bool
	// losesTrigger: NOTE_TRIGGER has no effect in the change that adds.
	losesTrigger bool
	// blindOneShot: what is due is not looked at again if it is one-shot. See
	// Kernel.StaleOneShots.
	blindOneShot bool
	// longIsPoll: a timeout that is too long is none; otherwise it is EINVAL.
	longIsPoll bool
	// deafToClose: Close does not wake a waiter.
	deafToClose bool
	// noData is a further flag of EV_EOF, when there is nothing left.
	noData uint32
	// noNull: /dev/null is refused.
	noNull bool
	// fewFiles: named pipes and character devices are refused.
	fewFiles bool
	// noZombies: a process that has ended is no process any more.
	noZombies bool
	// noReader is the answer to a write filter for a pipe without a reader.
	noReader unix.Errno
}

// The profiles.
var (
	FreeBSD = Profile{
		Name:              "freebsd",
		sys:               kq.System{Read: -1, Write: -2, Proc: -5, User: -11, HasUser: true},
		eventDropsActions: true,
		touches:           true,
		losesTrigger:      true,
		blindOneShot:      true,
		deafToClose:       true,
		noNull:            true,
		noReader:          unix.EPIPE,
	}
	NetBSD = Profile{
		Name:         "netbsd",
		sys:          kq.System{Read: 0, Write: 1, Proc: 4},
		noReceipt:    true,
		noDispatch:   true,
		sleepyEnable: true,
		blindOneShot: true,
		longIsPoll:   true,
		noZombies:    true,
		noReader:     unix.EBADF,
	}
	OpenBSD = Profile{
		Name:         "openbsd",
		sys:          kq.System{Read: -1, Write: -2, Proc: -5, Except: -9, OOB: 4, HasExcept: true},
		blindOneShot: true,
		noZombies:    true,
		noReader:     unix.EPIPE,
	}
	DragonFly = Profile{
		Name: "dragonfly",
		sys: kq.System{Read: -1, Write: -2, Proc: -5, User: -9, HasUser: true,
			Except: -8, OOB: 2, HasExcept: true},
		overruns:     true,
		touches:      true,
		blindOneShot: true,
		deafToClose:  true,
		noData:       0x1000,
		noReader:     unix.EPIPE,
	}
	Darwin = Profile{
		Name: "darwin",
		sys: kq.System{Read: -1, Write: -2, Proc: -5, User: -10, HasUser: true,
			Except: -15, OOB: 2, HasExcept: true},
		errorKeepsFlags: true,
		touches:         true,
		fewFiles:        true,
		noZombies:       true,
		noReader:        unix.EPIPE,
	}
)

// Profiles are all of them.
var Profiles = []Profile{FreeBSD, NetBSD, OpenBSD, DragonFly, Darwin}
