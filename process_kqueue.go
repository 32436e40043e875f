//go:build unix && !linux

package epore

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/epore/epore/backend/kqueue"
)

// openProcess returns a kqueue that watches the process, for other queues.
func openProcess(pid int) (fd int, err error) { return kqueue.OpenProcess(pid) }

// childEnded would be waitid(2), which Go has a way to call on Linux only. Others have
// kqueue, mostly.
func childEnded(int) (ended bool, err error) {
	return false, fmt.Errorf("nothing that Go has looks at a child without waiting for it on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
