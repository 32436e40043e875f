//go:build windows

package iocp

import (
	"sync"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

// emulatedPackets returns wait completion packets for systems that have none, such as
// Wine 10. They keep the rules of the kernel's: one association at a time; what is signaled
// is posted once; canceling takes back what is not posted yet. An emulated packet is an
// event, which cancels the wait.
func emulatedPackets(t *testing.T) *waitPackets {
	type association struct{ done chan struct{} }
	var mu sync.Mutex
	waits := make(map[windows.Handle]*association)
	cancel := func(packet windows.Handle) windows.NTStatus {
		mu.Lock()
		a := waits[packet]
		mu.Unlock()
		if a == nil {
			return windows.STATUS_CANCELLED // nothing is associated
		}
		if err := windows.SetEvent(packet); err != nil {
			t.Error(err)
		}
		<-a.done
		return windows.STATUS_SUCCESS
	}
	return &waitPackets{
		create: func(packet *windows.Handle) windows.NTStatus {
			event, err := windows.CreateEvent(nil, 1, 0, nil)
			if err != nil {
				return windows.STATUS_NO_MEMORY
			}
			*packet = event
			return windows.STATUS_SUCCESS
		},
		associate: func(packet, port, target windows.Handle, key uintptr, id uint32) windows.NTStatus {
			mu.Lock()
			defer mu.Unlock()
			if waits[packet] != nil {
				t.Error("associated twice")
				return windows.STATUS_INVALID_PARAMETER
			}
			a := &association{make(chan struct{})}
			waits[packet] = a
			if err := windows.ResetEvent(packet); err != nil {
				t.Error(err)
			}
			go func() {
				defer close(a.done)
				which, err := windows.WaitForMultipleObjects([]windows.Handle{packet, target}, false, windows.INFINITE)
				mu.Lock()
				delete(waits, packet)
				mu.Unlock()
				if err == nil && which == windows.WAIT_OBJECT_0+1 {
					err = windows.PostQueuedCompletionStatus(port, id, key, nil)
				}
				if err != nil {
					t.Error(err)
				}
			}()
			return windows.STATUS_SUCCESS
		},
		cancel: cancel,
	}
}

// The contract, with wait completion packets, where the system has none.
func TestContract_EmulatedWaitPackets(t *testing.T) {
	if kernelPackets() != nil {
		t.Skip("this system has wait completion packets: TestContract uses them")
	}
	packets := emulatedPackets(t)
	backendtest.Run(t, func() (backend.Backend, error) {
		q := New()
		err := q.Open(backend.Config{})
		q.packets = packets
		return q, err
	}, exceptions...)
}
