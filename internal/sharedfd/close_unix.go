//go:build unix

package sharedfd

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/unixfd"
)

// closeHandle closes a descriptor.
func closeHandle(h backend.Handle) error { return unixfd.Close(int(h)) }
