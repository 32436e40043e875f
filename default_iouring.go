//go:build linux && iouring && !pollfd

package epore

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/iouring"
)

func newDefaultBackend() (backend.Backend, error) { return iouring.New(), nil }
