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

// setupFlags are the flags of io_uring_setup to try in turn. Every ring starts
// disabled, so that it belongs to the thread of the first Wait and not to the
// one that opens it. Only the first set has the kernel enforce that, and
// complete requests nowhere but in the owner's calls (see Uring.deferred).
var setupFlags = []uint32{
	setupDisabled | setupSubmitAll | setupSingleIssuer | setupDeferTaskrun | setupTaskrunFlag, // Linux 6.1
	setupDisabled | setupSubmitAll, // 5.18
	setupDisabled,                  // 5.13
}

// openBest opens a ring with the first set of flags that the kernel supports:
// it answers EINVAL to flags that it does not know.
func openBest(entries uint32, sets []uint32) (r *ring, flags uint32, err error) {
	var call string
	for _, flags = range sets {
		if r, call, err = openRing(entries, completions, flags); err != unix.EINVAL {
			break
		}
	}
	if err != nil {
		return nil, 0, refusal(call, err)
	}
	return r, flags, nil
}

// probe finds out at Open whether a seccomp filter denies what Wait will need,
// by calls that have no effect: the ring is not enabled yet.
func (u *Uring) probe() error {
	if _, errno := u.ring.enter(0, 0); errno != unix.EBADFD {
		return refusal("io_uring_enter", errno)
	}
	if errno := u.ring.register(registerNothing); errno != unix.EINVAL {
		return refusal("io_uring_register", errno)
	}
	return nil
}

// release releases what Open acquired. A late call must not reach the next owner of a
// number.
func (u *Uring) release() error {
	wakefd := u.wakefd
	u.wakefd = -1
	return errors.Join(u.ids.Close(), unixfd.Close(wakefd), u.ring.close())
}

// otherwise is the way out.
const otherwise = `to use epoll instead, import "github.com/epore/epore/backend/epoll" and call epore.NewWith(epoll.New())`

// refusal names the likely cause when the system refuses the queue, and the way
// out. Where this system does not allow io_uring, it is errors.ErrUnsupported.
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

// unsupported is an errno that is also errors.ErrUnsupported.
type unsupported struct{ unix.Errno }

func (e unsupported) Is(target error) bool {
	return target == errors.ErrUnsupported || e.Errno.Is(target)
}

func (e unsupported) Unwrap() error { return e.Errno }

// kernelRelease returns the version of the running kernel.
func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "of unknown version"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// isInternal reports whether h is one of the queue's internal descriptors, which
// must not be registered: the eventfd would no longer wake anybody.
func (u *Uring) isInternal(h backend.Handle) bool {
	return h == backend.Handle(u.ring.fd) || h == backend.Handle(u.wakefd) || u.ids.Owns(h)
}
