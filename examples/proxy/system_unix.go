//go:build unix

package main

import (
	"errors"
	"os"
	"syscall"
)

// statisticsSignals are the signals on which the program prints its statistics.
var statisticsSignals = []os.Signal{syscall.SIGUSR1}

// outOfDescriptors reports whether err says that this process or this system has no
// descriptor left.
func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
