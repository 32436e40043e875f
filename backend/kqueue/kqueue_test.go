//go:build unix

package kqueue

import (
	"testing"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

// On the system's own kernel.
func TestContract(t *testing.T) {
	if newNative == nil {
		t.Skip("this system has no kqueue: see TestContractSimulated")
	}
	backendtest.Run(t, func() (backend.Backend, error) {
		q := New()
		return q, q.Open(backend.Config{})
	}, exceptions...)
}

// exceptions is what no kqueue tells.
var exceptions = []backendtest.Exception{{
	Case: "a datagram nobody wants",
	Why:  "a kqueue tells a pending error together with the end of a stream only",
}}
