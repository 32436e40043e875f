//go:build windows

package iocp

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

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
		err := q.Open()
		q.packets = packets
		return q, err
	}, exceptions...)
}

// A wait of the pool may end at the moment when its handle is signaled. On Wine 8, an
// UnregisterWaitEx that waits would crash the process then: it would take the callback out
// of a list that it is not in. Work items keep the lock of the pool busy meanwhile.
func TestHandleWait_CloseWhileSignaled(t *testing.T) {
	q := openQueue(t)
	rounds := 200
	if backendtest.Long() {
		rounds *= 20
	}
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for i := range rounds {
				h, err := windows.CreateEvent(nil, 0, 0, nil)
				if err != nil {
					t.Error(err)
					return
				}
				w, err := newHandleWait(q.port, h, keyTick, nil, i%2 == 0)
				if err != nil {
					t.Error(err)
					return
				}
				if err := windows.SetEvent(h); err != nil {
					t.Error(err)
				}
				moment := time.Duration(rand.IntN(60)) * time.Microsecond
				for begin := time.Now(); time.Since(begin) < moment; {
					runtime.Gosched()
				}
				if err := w.close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	queueWork := kernel32.NewProc("QueueUserWorkItem")
	queued := make(chan struct{}, 64)
	work := syscall.NewCallback(func(uintptr) uintptr {
		<-queued
		return 0
	})
	stop := make(chan struct{})
	var noise sync.WaitGroup
	for range 3 {
		noise.Go(func() {
			for {
				select {
				case <-stop:
					return
				case queued <- struct{}{}:
					if ok, _, err := queueWork.Call(work, 0, 0); ok == 0 {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	workers.Wait()
	close(stop)
	noise.Wait()
	for len(queued) > 0 {
		runtime.Gosched()
	}
}
