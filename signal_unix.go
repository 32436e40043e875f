//go:build unix

package epore

import (
	"os"
	"syscall"
)

// uncatchable holds the signals that no program can catch.
var uncatchable = []os.Signal{syscall.SIGKILL, syscall.SIGSTOP}
