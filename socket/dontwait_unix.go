//go:build unix && !aix

package socket

import "golang.org/x/sys/unix"

// dontWait makes one call non-blocking, even if another program that shares the open file has
// cleared O_NONBLOCK. (macOS ignores it when writing.)
const dontWait = unix.MSG_DONTWAIT

// receiveFlags are the flags of every read.
const receiveFlags = dontWait
