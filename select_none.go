//go:build !linux || pollfd

package epore

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/epore/epore/backend"
)

func newDefaultBackend() (backend.Backend, error) {
	return nil, fmt.Errorf("no queue is built in for %s with these build tags yet (NewWith takes one): %w", runtime.GOOS, errors.ErrUnsupported)
}
