package posix

import "golang.org/x/sys/unix"

// rdhup reports that the peer has shut down its writing side. Older kernels, such as 12.3,
// ignore it.
const rdhup = unix.POLLRDHUP
