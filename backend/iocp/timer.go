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
// the system clock. It is a high-resolution waitable timer, whose end is posted to the
// port.
type timer struct {
	once sync.Once
	wait *handleWait // nil: there is no timer
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

// open makes the timer when it is first needed; many queues never need it.
func (t *timer) open(port windows.Handle, packets *waitPackets) {
	h, err := createTimer()
	if err != nil {
		return
	}
	if t.wait, err = newHandleWait(port, h, keyTick, packets, false); err != nil {
		_ = windows.CloseHandle(h)
	}
}

// start sets the timer if timeout is short, and reports whether it did. A packet that
// comes after this wait has ended ends the next one early, which the core allows.
func (t *timer) start(port windows.Handle, packets *waitPackets, timeout time.Duration) bool {
	if timeout == 0 || timeout >= timerLimit {
		return false
	}
	t.once.Do(func() { t.open(port, packets) })
	if t.wait == nil {
		return false
	}
	dueTime := -int64((timeout + 99) / 100) // relative, in 100 ns
	ok, _, _ := syscall.SyscallN(procSetWaitableTimer.Addr(), uintptr(t.wait.target), uintptr(unsafe.Pointer(&dueTime)), 0, 0, 0, 0)
	return ok != 0 && t.wait.associate() == nil
}

// stop cancels the timer.
func (t *timer) stop() {
	t.wait.dissociate()
	_, _, _ = syscall.SyscallN(procCancelWaitableTimer.Addr(), uintptr(t.wait.target))
}

// close releases the timer. It returns when no more packets will be posted.
func (t *timer) close() error {
	if t.wait == nil {
		return nil
	}
	w := t.wait
	t.wait = nil
	return w.close()
}
