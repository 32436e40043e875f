//go:build unix

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// leastDescriptors is how many one process must be allowed to have. The server of
// Wine holds those of every process of the prefix. A hundred and eighty are too few
// to make one, and with 256 a second program started at the wrong moment fails.
const leastDescriptors = 1024

// checkLimit says whether that many are allowed: the hard limit is what counts, since
// Wine raises the soft one to it by itself.
func checkLimit() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("cannot ask how many descriptors a process may have: %w", err)
	}
	if limit.Max < leastDescriptors {
		return fmt.Errorf("no Wine here: a process may have %d descriptors, and Wine takes %d; raise the hard limit (ulimit -H -n)",
			limit.Max, leastDescriptors)
	}
	return nil
}
