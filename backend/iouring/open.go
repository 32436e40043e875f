//go:build linux

package iouring

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
	"github.com/epore/epore/internal/unixfd"
	"github.com/epore/epore/internal/uring"
)

// setupFlags are the flags of io_uring_setup to try in turn. Every ring starts
// disabled, so that it belongs to the thread of the first Wait and not to the
// one that opens it. Only the first set has the kernel enforce that, and
// complete requests nowhere but in the owner's calls (see Uring.deferred).
var setupFlags = []uint32{
	uring.SetupDisabled | uring.SetupSubmitAll | uring.SetupSingleIssuer | uring.SetupDeferTaskrun | uring.SetupTaskrunFlag, // Linux 6.1
	uring.SetupDisabled | uring.SetupSubmitAll, // 5.18
	uring.SetupDisabled,                        // 5.13
}

// openBest opens a ring with the first set of flags that the kernel supports.
func openBest(entries uint32, sets []uint32) (r *uring.Ring, flags uint32, err error) {
	r, flags, call, err := uring.OpenBest(entries, completions, sets)
	if err != nil {
		return nil, 0, refusal(call, err)
	}
	return r, flags, nil
}

// probe finds out at Open whether a seccomp filter denies what Wait will need,
// by calls that have no effect: the ring is not enabled yet.
func (u *Uring) probe() error {
	if _, errno := u.ring.Enter(0, 0); errno != unix.EBADFD {
		return refusal("io_uring_enter", errno)
	}
	if errno := u.ring.Register(uring.RegisterNothing); errno != unix.EINVAL {
		return refusal("io_uring_register", errno)
	}
	return nil
}

// release releases what Open acquired. A late call must not reach the next owner of a
// number.
func (u *Uring) release() error {
	wakefd := u.wakefd
	u.wakefd = -1
	return errors.Join(u.ids.Close(), unixfd.Close(wakefd), u.ring.Close())
}

// otherwise is the way out.
const otherwise = `to use epoll instead, import "github.com/epore/epore/backend/epoll" and call epore.NewWith(epoll.New())`

// refusal names the likely cause when the system refuses the queue, and the way
// out. Where this system does not allow io_uring, it is errors.ErrUnsupported.
func refusal(call string, err error) error { return explain(call, err, uring.Disabled()) }

// explain is refusal, given the value of the sysctl kernel.io_uring_disabled.
func explain(call string, err error, disabled string) error {
	hint := otherwise
	if err == unix.ENOMEM {
		hint = "fewer entries take less (iouring.WithEntries); " + otherwise
	}
	if e := uring.Explain(call, err, disabled, hint); e != nil {
		return e
	}
	return linux.OpenError(call, err)
}

// isInternal reports whether h is one of the queue's internal descriptors, which
// must not be registered: the eventfd would no longer wake anybody.
func (u *Uring) isInternal(h backend.Handle) bool {
	return h == backend.Handle(u.ring.FD) || h == backend.Handle(u.wakefd) || u.ids.Owns(h)
}
