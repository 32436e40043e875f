//go:build !plan9

package epore

import "syscall"

// errBadDescriptor is the error of a backend for a descriptor that is closed.
const errBadDescriptor = syscall.EBADF
