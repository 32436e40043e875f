//go:build !plan9

package sim

import "syscall"

// The errors of simulated system calls.
const (
	errAddressInUse        = syscall.EADDRINUSE
	errAddressNotAvailable = syscall.EADDRNOTAVAIL
	errBadDescriptor       = syscall.EBADF
	errRefused             = syscall.ECONNREFUSED
	errReset               = syscall.ECONNRESET
	errNoDestination       = syscall.EDESTADDRREQ
	errHostUnreachable     = syscall.EHOSTUNREACH
	errInvalid             = syscall.EINVAL
	errTooManyFiles        = syscall.EMFILE
	errMessageSize         = syscall.EMSGSIZE
	errFileTable           = syscall.ENFILE
	errNotConnected        = syscall.ENOTCONN
	errPipe                = syscall.EPIPE
	errTimedOut            = syscall.ETIMEDOUT
)
