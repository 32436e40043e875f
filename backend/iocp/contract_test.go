//go:build windows

package iocp

import (
	"testing"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

var exceptions = []backendtest.Exception{{
	Case: "both sides shut down",
	Why:  "AFD does not report that this side has shut down sending",
}}

func TestContract(t *testing.T) {
	backendtest.Run(t, func() (backend.Backend, error) {
		q := New()
		return q, q.Open()
	}, exceptions...)
}

// Windows before 10, version 1803, has no high-resolution timers: the same contract,
// with a resolution of a millisecond.
func TestContract_WithoutTimer(t *testing.T) {
	backendtest.Run(t, func() (backend.Backend, error) {
		q := New()
		q.timer.once.Do(func() {}) // never opened
		return q, q.Open()
	}, exceptions...)
}

// Windows 7 has no wait completion packets: the same contract, with the system's pool of
// threads.
func TestContract_WithoutWaitPackets(t *testing.T) {
	if kernelPackets() == nil {
		t.Skip("this system has no wait completion packets: TestContract tests the same")
	}
	backendtest.Run(t, func() (backend.Backend, error) {
		q := New()
		err := q.Open()
		q.packets = nil
		return q, err
	}, exceptions...)
}
