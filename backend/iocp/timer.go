//go:build windows

package iocp

import (
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// timer ends waits with short timeouts, which the port would round up to the next tick of
// the system clock. It is a high-resolution waitable timer. A thread of the system's pool
// waits for it and posts a packet.
type timer struct {
	once   sync.Once
	handle windows.Handle // 0: none
	waiter windows.Handle // the pool's
}

// timerLimit is the timeout below which the timer is used: two ticks of the clock.
const timerLimit = 32 * time.Millisecond

// createTimer returns a high-resolution timer, which exists since Windows 10, version
// 1803. A wait for it resets it.
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

// hasTimer reports whether this Windows has such timers.
var hasTimer = sync.OnceValue(func() bool {
	h, err := createTimer()
	if err != nil {
		return false
	}
	_ = windows.CloseHandle(h)
	return true
})

// resolution returns the unit that timeouts are rounded up to.
func (t *timer) resolution() time.Duration {
	if hasTimer() {
		return 100 * time.Nanosecond
	}
	return time.Millisecond
}

// onTick is the callback that the pool calls. It posts a packet to the port.
var onTick = sync.OnceValue(func() uintptr {
	return syscall.NewCallback(func(port uintptr, _ uintptr) uintptr {
		_ = windows.PostQueuedCompletionStatus(windows.Handle(port), 0, keyTick, nil)
		return 0
	})
})

// open makes the timer when it is first needed; many queues never need it.
func (t *timer) open(port windows.Handle) {
	h, err := createTimer()
	if err != nil {
		return
	}
	const inWaitThread = 4 // WT_EXECUTEINWAITTHREAD: onTick does not block
	ok, _, _ := procRegisterWaitSingleObject.Call(uintptr(unsafe.Pointer(&t.waiter)), uintptr(h), onTick(), uintptr(port), windows.INFINITE, inWaitThread)
	if ok == 0 {
		_ = windows.CloseHandle(h)
		return
	}
	t.handle = h
}

// start sets the timer if timeout is short, and reports whether it did. A packet that
// comes after this wait has ended ends the next one early, which the core allows.
func (t *timer) start(port windows.Handle, timeout time.Duration) bool {
	if timeout == 0 || timeout >= timerLimit {
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

// stop cancels the timer.
func (t *timer) stop() {
	_, _, _ = syscall.SyscallN(procCancelWaitableTimer.Addr(), uintptr(t.handle))
}

// close ends the pool's wait. It returns when onTick is not running any more.
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
