//go:build unix && !linux

package backendtest

import (
	"runtime"
	"testing"
)

func terminal(t *testing.T) (master, slave *end) {
	t.Skipf("no fixture for pseudo-terminals on %s yet", runtime.GOOS)
	return nil, nil
}

func eventfd(t *testing.T) *end {
	t.Skipf("%s has no eventfd, or it has no fixture yet", runtime.GOOS)
	return nil
}
