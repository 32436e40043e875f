package posix

import "golang.org/x/sys/unix"

// rdhup tells of a peer that writes no more.
const rdhup = unix.POLLRDHUP
