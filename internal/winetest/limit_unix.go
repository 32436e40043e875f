//go:build unix

package main

import (
	"fmt"
	"syscall"
)

// leastDescriptors is how many one process must be allowed to have. The server of
// Wine holds those of every process of the prefix. A hundred and eighty are too few
// to make one, and with 256 a second program started at the wrong moment fails.
const leastDescriptors = 1024

// allowDescriptors allows the programs that we start as many as the hard limit does,
// and fails if that is not enough. Go has done so for us, but not for them.
func allowDescriptors() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("cannot ask how many descriptors a process may have: %w", err)
	}
	if limit.Max < leastDescriptors {
		return fmt.Errorf("no Wine here: a process may have %d descriptors, and Wine takes %d; raise the hard limit (ulimit -H -n)",
			limit.Max, leastDescriptors)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("cannot allow a process %d descriptors: %w", limit.Max, err)
	}
	return nil
}
