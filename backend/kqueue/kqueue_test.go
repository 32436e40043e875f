//go:build unix

package kqueue

import (
	"testing"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/kq"
)

// TestContract runs on the system's kernel.
func TestContract(t *testing.T) {
	if kq.Native() == nil {
		t.Skip("this system has no kqueue: see TestContract_Simulated")
	}
	backendtest.Run(t, func() (backend.Backend, error) {
		q := New()
		return q, q.Open()
	}, exceptions...)
}

// exceptions are the cases that no kqueue passes.
var exceptions = []backendtest.Exception{{
	Case: "a datagram nobody wants",
	Why:  "a kqueue reports a pending error only together with the end of a stream",
}}
