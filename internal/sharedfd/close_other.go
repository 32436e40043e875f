//go:build !unix && !windows

package sharedfd

import (
	"errors"

	"github.com/epore/epore/backend"
)

// closeHandle has nothing to close: no socket is ever made here.
func closeHandle(backend.Handle) error { return errors.ErrUnsupported }
