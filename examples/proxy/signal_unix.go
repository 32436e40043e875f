//go:build unix

package main

import (
	"os"
	"syscall"
)

// statisticsSignals are the signals on which the program prints its statistics.
var statisticsSignals = []os.Signal{syscall.SIGUSR1}
