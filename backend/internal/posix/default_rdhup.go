//go:build unix && !linux && !freebsd

package posix

// rdhup would report that the peer has shut down its writing side. POSIX has no such bit:
// the source becomes readable, and a read finds the end of the stream.
const rdhup = 0
