//go:build linux

package uring

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenBest opens a ring with the first set of flags that the kernel supports: it answers
// EINVAL to flags that it does not know. If a call fails, OpenBest names the call.
func OpenBest(n, times uint32, sets []uint32) (r *Ring, flags uint32, call string, err error) {
	for _, flags = range sets {
		if r, call, err = Open(n, times, flags); err != unix.EINVAL {
			break
		}
	}
	return r, flags, call, err
}

// Disabled returns the value of the sysctl kernel.io_uring_disabled, or an empty string if
// this kernel does not have it.
func Disabled() string {
	setting, _ := os.ReadFile("/proc/sys/kernel/io_uring_disabled")
	return strings.TrimSpace(string(setting))
}

// Explain names the likely cause of an error of Open, given what Disabled returns. otherwise
// is the way out that the error ends with. Where this system does not allow io_uring, the
// error is errors.ErrUnsupported. Explain returns nil if it knows no cause.
func Explain(call string, err error, disabled, otherwise string) error {
	var cause string
	switch err {
	case unix.ENOSYS, unix.EINVAL:
		cause = "this kernel (" + Kernel() + ") has no io_uring, or an old one (5.13 is needed), or a seccomp filter hides it"
	case unix.EPERM, unix.EACCES:
		cause = "a seccomp filter or a security module denies it, as container engines do by default"
		switch disabled {
		case "1":
			cause = "sysctl kernel.io_uring_disabled=1 denies it to users outside of kernel.io_uring_group; or " + cause
		case "2":
			cause = "sysctl kernel.io_uring_disabled=2 denies it to everybody"
		}
	case unix.ENOMEM:
		return fmt.Errorf("%s: no memory for the rings: RLIMIT_MEMLOCK, which counts them on some kernels (ulimit -l), or another limit of memory; %s: %w", call, otherwise, err)
	default:
		return nil
	}
	return fmt.Errorf("%s: %s; %s: %w", call, cause, otherwise, unsupported{err.(unix.Errno)})
}

// unsupported is an errno that is also errors.ErrUnsupported.
type unsupported struct{ unix.Errno }

func (e unsupported) Is(target error) bool {
	return target == errors.ErrUnsupported || e.Errno.Is(target)
}

func (e unsupported) Unwrap() error { return e.Errno }

// Kernel returns the version of the running kernel.
func Kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "of unknown version"
	}
	return unix.ByteSliceToString(u.Release[:])
}
