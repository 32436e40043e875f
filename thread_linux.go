package epore

import "golang.org/x/sys/unix"

// threadID returns the number of the calling thread.
func threadID() int { return unix.Gettid() }
