//go:build (darwin || dragonfly || freebsd || netbsd || openbsd) && !pollfd

package epore

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/kqueue"
)

func newDefaultBackend() (backend.Backend, error) { return kqueue.New(), nil }
