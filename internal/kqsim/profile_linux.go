package kqsim

import (
	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/kq"
)

// Profile describes a system: in what its kqueue differs from others.
type Profile struct {
	// Name is the GOOS.
	Name string

	sys kq.System

	// noReceipt and noDispatch: the kernel silently ignores the flag.
	noReceipt, noDispatch bool
	// overruns: errors of changes are written beyond the room for events.
	overruns bool
	// errorKeepsFlags: an EV_ERROR event also has the flags of its change.
	errorKeepsFlags bool
	// eventDropsActions: events do not carry EV_ADD and the like.
	eventDropsActions bool
	// touches: every change of an existing knote sets its fflags and udata, not only
	// EV_ADD.
	touches bool
	// sleepyEnable: EV_ENABLE does not evaluate the condition; it only reports what
	// happened while the knote was disabled.
	sleepyEnable bool
	// losesTrigger: NOTE_TRIGGER has no effect in the change that adds.
	losesTrigger bool
	// blindOneShot: the condition of a one-shot knote that is due is not evaluated again.
	// See Kernel.StaleOneShots.
	blindOneShot bool
	// longIsPoll: a timeout that is too long counts as zero; elsewhere it is EINVAL.
	longIsPoll bool
	// deafToClose: Close does not wake a waiter.
	deafToClose bool
	// noData is a flag that comes with EV_EOF when no data is left.
	noData uint32
	// noNull: /dev/null is refused.
	noNull bool
	// fewFiles: named pipes and character devices are refused.
	fewFiles bool
	// noZombies: a process that has ended cannot be watched, even if it was not reaped.
	noZombies bool
	// noReader is the error for a write filter on a pipe without a reader.
	noReader unix.Errno
}

// These are the profiles.
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
		sys:          kq.System{Read: 0, Write: 1, Proc: 4, SilentFullPipe: true},
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

// Profiles has all profiles.
var Profiles = []Profile{FreeBSD, NetBSD, OpenBSD, DragonFly, Darwin}
