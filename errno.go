//go:build !plan9

package epore

import "syscall"

// errBadDescriptor is how a backend says that a descriptor is closed.
const errBadDescriptor = syscall.EBADF
