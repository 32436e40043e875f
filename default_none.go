//go:build !unix && !windows

package epore

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/epore/epore/backend"
)

func newDefaultBackend() (backend.Backend, error) {
	return nil, fmt.Errorf("no queue is built in for %s (NewWith takes one): %w", runtime.GOOS, errors.ErrUnsupported)
}
