//go:build !unix

package main

import (
	"os"
	"syscall"
)

// forwarded are the signals that a runner passes on to its program.
var forwarded = []os.Signal{os.Interrupt, syscall.SIGTERM}

// allowDescriptors does nothing on systems without such a limit, which lack Wine, too.
func allowDescriptors() error { return nil }
