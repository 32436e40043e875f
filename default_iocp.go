//go:build windows

package epore

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/iocp"
)

func newDefaultBackend() (backend.Backend, error) { return iocp.New(), nil }
