//go:build unix && !linux

package kqueue

import (
	"runtime"

	"github.com/epore/epore/internal/kq"
)

// kernels returns how to make the system's kernel, if it has kqueue.
func kernels() map[string]func() kq.Kernel {
	if kq.Native() == nil {
		return nil
	}
	return map[string]func() kq.Kernel{runtime.GOOS: kq.Native}
}
