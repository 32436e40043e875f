//go:build unix && !linux

package posix

// rdhup tells of a peer that writes no more. POSIX has no such bit: what is
// readable then has to be read, and ends.
const rdhup = 0
