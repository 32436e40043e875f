//go:build linux

package epoll

import (
	"testing"
	"time"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

func TestContract(t *testing.T) {
	backendtest.Run(t, func() (backend.Backend, error) {
		e := New()
		return e, e.Open()
	})
}

// Kernels before 5.11 lack epoll_pwait2: the same contract, with a resolution of a
// millisecond.
func TestContract_WithoutPwait2(t *testing.T) {
	backendtest.Run(t, func() (backend.Backend, error) {
		e := New()
		err := e.Open()
		e.nanoseconds, e.resolution = false, time.Millisecond
		return e, err
	})
}
