//go:build !unix

package main

import (
	"errors"
	"os"
	"syscall"
)

var statisticsSignals []os.Signal // this system has no signal for it

func outOfDescriptors(err error) bool { return errors.Is(err, syscall.EMFILE) }
