//go:build unix

package system

import (
	"os"
	"syscall"
)

// Uncatchable holds the signals that no program can catch.
var Uncatchable = []os.Signal{syscall.SIGKILL, syscall.SIGSTOP}
