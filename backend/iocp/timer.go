//go:build windows

package iocp

import (
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// timer ends waits whose timeout is too short for the port's, which goes by the tick
// of the system's clock: a waitable timer of high resolution, for which a thread of
// the system's pool waits, and posts a packet.
type timer struct {
	once   sync.Once
	handle windows.Handle // 0: there is none
	waiter windows.Handle // of the pool
}

// precise is the timeout below which a timer is used: two ticks of the clock.
const precise = 32 * time.Millisecond

// createTimer makes a timer of high resolution, which resets itself when it was
// waited for; from Windows 10, version 1803, on.
func createTimer() (windows.Handle, error) {
	const (
		highResolution = 2        // CREATE_WAITABLE_TIMER_HIGH_RESOLUTION
		all            = 0x1F0003 // TIMER_ALL_ACCESS
	)
	if err := procCreateWaitableTimerEx.Find(); err != nil {
		return 0, err
	}
	h, _, err := procCreateWaitableTimerEx.Call(0, 0, highResolution, all)
	if h == 0 {
		return 0, err
	}
	return windows.Handle(h), nil
}

// hasTimer reports whether there are such timers.
var hasTimer = sync.OnceValue(func() bool {
	h, err := createTimer()
	if err != nil {
		return false
	}
	_ = windows.CloseHandle(h)
	return true
})

// resolution is that of timeouts.
func (t *timer) resolution() time.Duration {
	if hasTimer() {
		return 100 * time.Nanosecond
	}
	return time.Millisecond
}

// onTick is called by the pool: it posts a packet to the port.
var onTick = sync.OnceValue(func() uintptr {
	return syscall.NewCallback(func(port uintptr, _ uintptr) uintptr {
		_ = windows.PostQueuedCompletionStatus(windows.Handle(port), 0, keyTick, nil)
		return 0
	})
})

// open makes the timer, when it is first needed: many a queue never does.
func (t *timer) open(port windows.Handle) {
	h, err := createTimer()
	if err != nil {
		return
	}
	const inWaitThread = 4 // WT_EXECUTEINWAITTHREAD: it does not block
	ok, _, _ := procRegisterWaitSingleObject.Call(uintptr(unsafe.Pointer(&t.waiter)), uintptr(h), onTick(), uintptr(port), windows.INFINITE, inWaitThread)
	if ok == 0 {
		_ = windows.CloseHandle(h)
		return
	}
	t.handle = h
}

// start has a packet come after timeout, if that is worth it. One that comes too late
// for this wait ends the next one early, which costs a turn of the core's loop.
func (t *timer) start(port windows.Handle, timeout time.Duration) bool {
	if timeout == 0 || timeout >= precise {
		return false
	}
	t.once.Do(func() { t.open(port) })
	if t.handle == 0 {
		return false
	}
	dueTime := -int64((timeout + 99) / 100) // relative, in 100 ns
	ok, _, _ := syscall.SyscallN(procSetWaitableTimer.Addr(), uintptr(t.handle), uintptr(unsafe.Pointer(&dueTime)), 0, 0, 0, 0)
	return ok != 0
}

// stop takes that back.
func (t *timer) stop() {
	_, _, _ = syscall.SyscallN(procCancelWaitableTimer.Addr(), uintptr(t.handle))
}

// close ends the pool's wait, also one that is just posting.
func (t *timer) close() error {
	if t.handle == 0 {
		return nil
	}
	h := t.handle
	t.handle = 0
	ok, _, err := procUnregisterWaitEx.Call(uintptr(t.waiter), uintptr(windows.InvalidHandle))
	if ok != 0 {
		err = nil
	}
	if e := windows.CloseHandle(h); err == nil {
		err = e
	}
	return err
}
