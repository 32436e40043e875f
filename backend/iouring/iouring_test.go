//go:build linux

package iouring

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

// Both gears, and what older kernels have of them.
func TestContract(t *testing.T) {
	for i, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			if _, again := tested.LoadOrStore(fmt.Sprint(i, runtime.GOMAXPROCS(0)), true); again && i > 1 {
				t.Skip("tested already, on as many processors")
			}
			backendtest.Run(t, func() (backend.Backend, error) { return kind.open() }, numbers)
		})
	}
}

// numbers is what a request that is made anew for each event cannot pass: see the
// package comment.
var numbers = backendtest.Exception{
	Case: "a closed number that others use",
	Why:  "requests are made for a number, and know nothing of who had it before",
}

// tested are the kinds that have been, when tests are repeated: the rarer ones are
// not.
var tested sync.Map

// kind is a way to open a ring.
type kind struct {
	name     string
	blocking bool
	entries  uint32
	gears    []uint32 // that there are, if not all
	noisy    bool     // without IOSQE_CQE_SKIP_SUCCESS
}

var kinds = []kind{
	{name: "shared"},
	{name: "owned", blocking: true},
	{name: "shared, small", entries: 1},
	{name: "owned, small", entries: 1, blocking: true},
	{name: "shared, Linux 5.13", gears: []uint32{plainGear}, noisy: true},
	{name: "blocking, Linux 6.0", blocking: true, gears: []uint32{sharedGear, plainGear}},
}

func (k kind) open() (*Uring, error) {
	u := New()
	if k.entries > 0 {
		u = New(WithEntries(k.entries))
	}
	u.gears = k.gears
	err := u.Open(backend.Config{Blocking: k.blocking})
	if k.noisy {
		u.quiet = 0
	}
	return u, err
}
