//go:build !plan9

package system

import "syscall"

// BadDescriptor is the error of a backend for a descriptor that is closed.
const BadDescriptor = syscall.EBADF
