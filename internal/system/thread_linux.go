package system

import "golang.org/x/sys/unix"

// ThreadID returns the number of the calling thread.
func ThreadID() int { return unix.Gettid() }
