//go:build unix && (pollfd || !(darwin || dragonfly || freebsd || linux || netbsd || openbsd))

package epore

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/pollfd"
)

func newDefaultBackend() (backend.Backend, error) { return pollfd.New(), nil }
