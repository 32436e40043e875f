package sim

import "syscall"

// The errors of simulated system calls. Plan 9 has no numbers for them.
const (
	errAddressInUse        = syscall.ErrorString("address already in use")
	errAddressNotAvailable = syscall.ErrorString("cannot assign requested address")
	errBadDescriptor       = syscall.ErrorString("bad file descriptor")
	errRefused             = syscall.ErrorString("connection refused")
	errReset               = syscall.ErrorString("connection reset by peer")
	errNoDestination       = syscall.ErrorString("destination address required")
	errHostUnreachable     = syscall.ErrorString("no route to host")
	errInvalid             = syscall.ErrorString("invalid argument")
	errTooManyFiles        = syscall.ErrorString("too many open files")
	errMessageSize         = syscall.ErrorString("message too long")
	errFileTable           = syscall.ErrorString("too many open files in system")
	errNotConnected        = syscall.ErrorString("not connected")
	errPipe                = syscall.ErrorString("broken pipe")
	errTimedOut            = syscall.ErrorString("connection timed out")
)
