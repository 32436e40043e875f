//go:build unix && !linux

package kqueue

import (
	"runtime"

	"github.com/epore/epore/internal/kq"
)

// kernels is the system's own, if it has kqueue.
func kernels() map[string]func() kq.Kernel {
	if newNative == nil {
		return nil
	}
	return map[string]func() kq.Kernel{runtime.GOOS: newNative}
}
