//go:build linux && !iouring && !pollfd

package epore

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/epoll"
)

func newDefaultBackend() (backend.Backend, error) { return epoll.New(), nil }
