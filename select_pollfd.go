//go:build unix && (!linux || pollfd)

package epore

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/pollfd"
)

func newDefaultBackend() (backend.Backend, error) { return pollfd.New(), nil }
