//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// forwarded are the signals that a runner passes on to its program. The go command sends
// SIGQUIT to tests that take too long.
var forwarded = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT}

// leastDescriptors is the smallest limit of descriptors that Wine works with. Its server
// process holds descriptors for every process of the prefix. With 180, making a prefix
// fails; with 256, a second program that is started at the wrong moment fails.
const leastDescriptors = 1024

// allowDescriptors raises the limit of descriptors to the hard limit, and fails if that
// is not enough. Go's runtime does so for this process, but not for those it starts.
func allowDescriptors() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("get the limit of descriptors: %w", err)
	}
	if limit.Max < leastDescriptors {
		return fmt.Errorf("no usable Wine: it needs %[2]d descriptors, and the limit is %[1]d descriptors: raise the hard limit (ulimit -H -n)",
			limit.Max, leastDescriptors)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of descriptors to %d: %w", limit.Max, err)
	}
	return nil
}
