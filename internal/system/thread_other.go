//go:build !linux

package system

// ThreadID returns the number of the calling thread. Only Linux has a queue that
// belongs to one thread.
func ThreadID() int { return 1 }
