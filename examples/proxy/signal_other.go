//go:build !unix

package main

import "os"

var statisticsSignals []os.Signal // this system has no signal for it
