//go:build !unix && !windows

package sharedfd

import (
	"errors"

	"github.com/epore/epore/backend"
)

// closeHandle is never called: on these systems no socket is ever created.
func closeHandle(backend.Handle) error { return errors.ErrUnsupported }
