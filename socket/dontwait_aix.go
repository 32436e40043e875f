package socket

import "golang.org/x/sys/unix"

// dontWait makes one call non-blocking. AIX calls it MSG_NONBLOCK, not MSG_DONTWAIT.
const dontWait = unix.MSG_NONBLOCK

// receiveFlags are the flags of every read.
const receiveFlags = dontWait
