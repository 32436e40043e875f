//go:build unix && !linux

package kq_test

import (
	"runtime"

	"github.com/epore/epore/internal/kq"
)

// kernels returns the kernel of this system, if it has kqueue.
func kernels() map[string]kq.Kernel {
	if k := kq.Native(); k != nil {
		return map[string]kq.Kernel{runtime.GOOS: k}
	}
	return nil
}
