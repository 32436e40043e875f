//go:build windows

package iocp

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// handleWait posts a packet to a port when a handle becomes signaled, such as that of a
// timer or a process. Since Windows 8, the kernel posts it (a wait completion packet).
// Before that, a thread of the system's pool, which has one thread for 63 waits, waits for
// the handle and posts the packet.
type handleWait struct {
	port, target windows.Handle
	key          uintptr
	id           uint32         // number of bytes in the packet
	packets      *waitPackets   // nil: the pool waits
	handle       windows.Handle // of the wait completion packet, or the pool's
}

// waitPackets are the kernel's functions for wait completion packets.
type waitPackets struct {
	create func(packet *windows.Handle) windows.NTStatus
	// associate makes a packet wait once for target. It is posted when target is signaled,
	// or now if it is.
	associate func(packet, port, target windows.Handle, key uintptr, id uint32) windows.NTStatus
	// cancel ends that, and takes the packet out of the port if it is there. It may fail to
	// do so while the kernel is posting the packet.
	cancel func(packet windows.Handle) windows.NTStatus
}

// kernelPackets returns nil on a Windows without wait completion packets. Go's runtime
// uses them, too.
var kernelPackets = sync.OnceValue(func() *waitPackets {
	for _, proc := range []*windows.LazyProc{procNtCreateWaitPacket, procNtAssociateWaitPacket, procNtCancelWaitPacket} {
		if proc.Find() != nil {
			return nil
		}
	}
	return &waitPackets{
		create: func(packet *windows.Handle) windows.NTStatus {
			const genericAll = 0x10000000
			r, _, _ := procNtCreateWaitPacket.Call(uintptr(unsafe.Pointer(packet)), genericAll, 0)
			return windows.NTStatus(r)
		},
		associate: func(packet, port, target windows.Handle, key uintptr, id uint32) windows.NTStatus {
			r, _, _ := syscall.SyscallN(procNtAssociateWaitPacket.Addr(), uintptr(packet), uintptr(port), uintptr(target), key, 0, 0, uintptr(id), 0)
			return windows.NTStatus(r)
		},
		cancel: func(packet windows.Handle) windows.NTStatus {
			const removeSignaled = 1
			r, _, _ := syscall.SyscallN(procNtCancelWaitPacket.Addr(), uintptr(packet), removeSignaled)
			return windows.NTStatus(r)
		},
	}
})

// pooledWaits are the waits of the pool by id, which is all that the pool passes to its
// callback.
var (
	pooledWaits sync.Map // of uint32 to *handleWait
	lastWait    atomic.Uint32
)

// onSignaled is the callback that the pool calls when a handle is signaled.
var onSignaled = sync.OnceValue(func() uintptr {
	return syscall.NewCallback(func(id uintptr, _ uintptr) uintptr {
		if w, ok := pooledWaits.Load(uint32(id)); ok {
			w := w.(*handleWait)
			_ = windows.PostQueuedCompletionStatus(w.port, w.id, w.key, nil)
		}
		return 0
	})
})

// newHandleWait returns a wait for target, by wait completion packets or, if packets is
// nil, by the pool. The pool begins to wait at once. If once, it posts one packet, or else
// one each time that target is signaled. Wait completion packets wait after associate.
func newHandleWait(port, target windows.Handle, key uintptr, packets *waitPackets, once bool) (*handleWait, error) {
	w := &handleWait{port: port, target: target, key: key, id: lastWait.Add(1), packets: packets}
	if packets != nil {
		if status := packets.create(&w.handle); failed(status) {
			return nil, fmt.Errorf("NtCreateWaitCompletionPacket: %w", toErrno(status))
		}
		return w, nil
	}
	flags := uintptr(4) // WT_EXECUTEINWAITTHREAD: the callback does not block
	if once {
		flags |= 8 // WT_EXECUTEONLYONCE
	}
	pooledWaits.Store(w.id, w)
	ok, _, err := procRegisterWaitSingleObject.Call(uintptr(unsafe.Pointer(&w.handle)), uintptr(target), onSignaled(), uintptr(w.id), windows.INFINITE, flags)
	if ok == 0 {
		pooledWaits.Delete(w.id)
		return nil, fmt.Errorf("RegisterWaitForSingleObject: %w", err)
	}
	return w, nil
}

// associate makes a wait completion packet wait once. The pool waits already.
func (w *handleWait) associate() error {
	if w.packets == nil {
		return nil
	}
	if status := w.packets.associate(w.handle, w.port, w.target, w.key, w.id); failed(status) {
		return fmt.Errorf("NtAssociateWaitCompletionPacket: %w", toErrno(status))
	}
	return nil
}

// dissociate ends what associate began. A packet may still come.
func (w *handleWait) dissociate() {
	if w.packets != nil {
		w.packets.cancel(w.handle)
	}
}

// close ends the wait and closes its target. It returns when no more packets will be
// posted.
func (w *handleWait) close() (err error) {
	if w.packets != nil {
		w.dissociate()
		err = windows.CloseHandle(w.handle)
	} else {
		pooledWaits.Delete(w.id)
		err = unregisterWait(w.handle)
	}
	return errors.Join(err, windows.CloseHandle(w.target))
}

// unregisterWait ends a wait of the pool. It returns when the callback does not run any
// more. It waits for an event, instead of letting UnregisterWaitEx wait
// (INVALID_HANDLE_VALUE): on Wine that crashes the process if the callback is just about to
// begin.
func unregisterWait(h windows.Handle) error {
	ended, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return fmt.Errorf("CreateEvent: %w", err)
	}
	if ok, _, e := procUnregisterWaitEx.Call(uintptr(h), uintptr(ended)); ok == 0 && e != windows.ERROR_IO_PENDING {
		return errors.Join(fmt.Errorf("UnregisterWaitEx: %w", e), windows.CloseHandle(ended))
	}
	state, err := windows.WaitForSingleObject(ended, uint32(cancelTimeout/time.Millisecond))
	if err == nil && state != windows.WAIT_OBJECT_0 {
		return fmt.Errorf("the system's pool did not end a wait within %v", cancelTimeout) // and has the event
	}
	return errors.Join(err, windows.CloseHandle(ended))
}
