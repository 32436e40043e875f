package posix

import "golang.org/x/sys/unix"

// rdhup reports that the peer has shut down its writing side.
const rdhup = unix.POLLRDHUP
