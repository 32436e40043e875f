//go:build !linux

package epore

// threadID returns the number of the calling thread. Only Linux has a queue that
// belongs to one thread.
func threadID() int { return 1 }
