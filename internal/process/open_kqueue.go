//go:build unix && !linux

package process

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/epore/epore/internal/kq"
)

// Open returns a kqueue that watches the process and becomes readable when the process has
// ended. Any queue can watch that kqueue. The caller closes it.
func Open(pid int) (fd int, err error) { return kq.OpenProcess(pid) }

// childEnded would need waitid(2), which Go can call on Linux only. Most other systems have
// kqueue.
func childEnded(int) (ended bool, err error) {
	return false, fmt.Errorf("on %s Go has no call that looks at a child without waiting for it: %w", runtime.GOOS, errors.ErrUnsupported)
}

// errThread is unused here: other systems number threads apart from processes.
var errThread error

func isThread(int) bool { return false }
