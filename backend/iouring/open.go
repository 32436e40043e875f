//go:build linux

package iouring

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
	"github.com/epore/epore/internal/unixfd"
)

// The gears, as flags of io_uring_setup.
const (
	ownedGear  = setupSingleIssuer | setupDeferTaskrun | setupTaskrunFlag | setupDisabled | setupSubmitAll
	sharedGear = setupSubmitAll
	plainGear  = 0
)

// openBest opens a ring in the first gear that the kernel has: it says EINVAL to
// flags that it does not know.
func openBest(entries uint32, gears []uint32) (r *ring, gear uint32, err error) {
	var call string
	for _, gear = range gears {
		if r, call, err = openRing(entries, completions, gear); err != unix.EINVAL {
			break
		}
	}
	if err != nil {
		return nil, 0, refusal(call, err)
	}
	return r, gear, nil
}

// probe arms the eventfd, and so learns whether there are poll requests for
// more than one event. A ring that its owner will enable has them: it is of a
// later kernel. There, what a seccomp filter might deny is tried in vain.
func (u *Uring) probe() error {
	if u.owned {
		if _, errno := u.ring.record(0, 0); errno != unix.EBADFD { // it is not enabled
			return refusal("io_uring_enter", errno)
		}
		if errno := u.ring.register(registerNothing); errno != unix.EINVAL {
			return refusal("io_uring_register", errno)
		}
		return nil
	}
	u.fill()
	if errno := u.record(); errno != 0 {
		return refusal("io_uring_enter", errno)
	}
	for i := u.ring.head(); i != u.ring.tail(); i++ {
		if c := u.ring.at(i); c.userData == wakeMark && c.result == -int32(unix.EINVAL) {
			return refusal("multishot poll", unix.EINVAL)
		}
	}
	return nil
}

// release gives back what Open acquired.
func (u *Uring) release() error {
	return errors.Join(u.ids.Close(), unixfd.Close(u.wakefd), u.ring.close())
}

// otherwise is the way out.
const otherwise = `to use epoll instead, import "github.com/epore/epore/backend/epoll" and call epore.NewWith(epoll.New())`

// refusal names the likely cause of a queue that the system does not give, and
// the way out. Where it is a matter of what this system allows, it is
// errors.ErrUnsupported.
func refusal(call string, err error) error {
	setting, _ := os.ReadFile("/proc/sys/kernel/io_uring_disabled")
	return explain(call, err, strings.TrimSpace(string(setting)))
}

// explain is refusal, given the value of that sysctl.
func explain(call string, err error, disabled string) error {
	var cause string
	switch err {
	case unix.ENOSYS, unix.EINVAL:
		cause = "this kernel (" + kernelRelease() + ") has no io_uring, or an old one (5.13 is needed), or a seccomp filter hides it"
	case unix.EPERM, unix.EACCES:
		cause = "a seccomp filter or a security module denies it, as container engines do by default"
		switch disabled {
		case "1":
			cause = "sysctl kernel.io_uring_disabled=1 denies it to users outside of kernel.io_uring_group; or " + cause
		case "2":
			cause = "sysctl kernel.io_uring_disabled=2 denies it to everybody"
		}
	case unix.ENOMEM:
		return fmt.Errorf("%s: no memory for the rings: RLIMIT_MEMLOCK, which counts them on some kernels (ulimit -l), or another limit of memory; fewer entries take less (iouring.WithEntries); %s: %w", call, otherwise, err)
	default:
		return linux.OpenError(call, err)
	}
	return fmt.Errorf("%s: %s; %s: %w", call, cause, otherwise, unsupported{err.(unix.Errno)})
}

// unsupported is an errno that says that there is no such queue here.
type unsupported struct{ unix.Errno }

func (e unsupported) Is(target error) bool {
	return target == errors.ErrUnsupported || e.Errno.Is(target)
}

func (e unsupported) Unwrap() error { return e.Errno }

// kernelRelease is the version of the running kernel.
func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "of unknown version"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// isOwn reports that h is one of the queue's own descriptors, which are not for
// others to register.
func (u *Uring) isOwn(h backend.Handle) bool {
	return h == backend.Handle(u.ring.fd) || h == backend.Handle(u.wakefd) || u.ids.Owns(h)
}
