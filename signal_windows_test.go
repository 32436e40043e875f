package epore_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/windows"
)

// Signals to test with. There is one that can be sent and does not end the program.
const (
	sig1 = syscall.SIGINT
	sig2 = syscall.SIGINT
)

// uncatchable is one that no program can catch.
var uncatchable = os.Kill

var (
	kernel32         = windows.NewLazySystemDLL("kernel32.dll")
	procCtrlRoutine  = kernel32.NewProc("CtrlRoutine")
	procCreateThread = kernel32.NewProc("CreateThread")
)

// raise has this process interrupted as by ^C, in the way in which a console does it: on
// a thread of its own, in a function made for that. So no console is needed. It returns
// when Go's runtime has the signal.
func raise(t testing.TB, _ syscall.Signal) {
	t.Helper()
	if err := procCtrlRoutine.Find(); err != nil {
		t.Skip(err)
	}
	h, _, err := procCreateThread.Call(0, 0, procCtrlRoutine.Addr(), windows.CTRL_C_EVENT, 0, 0)
	if !assert.NotZero(t, h, err) {
		return
	}
	_, err = windows.WaitForSingleObject(windows.Handle(h), windows.INFINITE)
	assert.NoError(t, err)
	assert.NoError(t, windows.CloseHandle(windows.Handle(h)))
}
