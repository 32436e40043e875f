//go:build linux

package iouring

import (
	"testing"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

// Both gears, and what older kernels have of them.
func TestContract(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			backendtest.Run(t, func() (backend.Backend, error) { return kind.open() })
		})
	}
}

// kind is a way to open a ring.
type kind struct {
	name     string
	blocking bool
	entries  uint32
	without  func(u *Uring)
}

var kinds = []kind{
	{name: "shared"},
	{name: "owned", blocking: true},
	{name: "shared, small", entries: 1},
	{name: "owned, small", entries: 1, blocking: true},
}

func (k kind) open() (*Uring, error) {
	u := New()
	if k.entries > 0 {
		u = New(WithEntries(k.entries))
	}
	if err := u.Open(backend.Config{Blocking: k.blocking}); err != nil {
		return u, err
	}
	if k.without != nil {
		k.without(u)
	}
	return u, nil
}
