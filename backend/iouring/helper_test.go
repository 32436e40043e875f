//go:build linux

package iouring

import (
	"bufio"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

// kind is a way to open a ring.
type kind struct {
	name    string
	entries uint32   // 0: the default
	flags   []uint32 // what the kernel supports, if not all
	noisy   bool     // without IOSQE_CQE_SKIP_SUCCESS
}

var kinds = []kind{
	{name: "default"},
	{name: "small", entries: 1},
	{name: "Linux 6.0", flags: setupFlags[1:]},
	{name: "Linux 5.13", flags: setupFlags[2:], noisy: true},
}

// modes are the ways to report, level first.
var modes = []backend.Interest{0, backend.Edge, backend.OneShot}

func (k kind) open() (*Uring, error) {
	u := New()
	if k.entries > 0 {
		u = New(WithEntries(k.entries))
	}
	if k.flags != nil {
		u.flags = k.flags
	}
	err := u.Open()
	if k.noisy {
		u.quiet = 0
	}
	return u, err
}

// opened returns an open queue that is closed when the test ends, and a function
// that closes it before.
func opened(t testing.TB, k kind) (u *Uring, closeNow func()) {
	u, err := k.open()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	closed := false
	closeNow = func() {
		if !closed {
			closed = true
			require.NoError(t, u.Close())
		}
	}
	t.Cleanup(closeNow)
	return u, closeNow
}

// eachKind runs a test on every kind of ring. The test waits on one thread.
func eachKind(t *testing.T, rule string, run func(t *testing.T, u *Uring)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			stop := backendtest.Watchdog(t, rule)
			defer stop()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			u, _ := opened(t, k)
			run(t, u)
		})
	}
}

// eachMode runs a test on every kind of ring in every mode.
func eachMode(t *testing.T, rule string, run func(t *testing.T, u *Uring, mode backend.Interest)) {
	for _, mode := range modes {
		name := "Level"
		if mode != 0 {
			name = mode.String()
		}
		t.Run(name, func(t *testing.T) {
			eachKind(t, rule, func(t *testing.T, u *Uring) { run(t, u, mode) })
		})
	}
}

// some waits until there are events, on this thread.
func some(t *testing.T, u *Uring, dst []backend.Event) []backend.Event {
	t.Helper()
	for range 1000 {
		n, err := u.Wait(dst, time.Second)
		require.NoError(t, err)
		if n > 0 {
			return dst[:n]
		}
	}
	t.Fatal("no event came")
	return nil
}

// ready returns the events that a Wait without a timeout reports.
func ready(t *testing.T, u *Uring) []backend.Event {
	t.Helper()
	dst := make([]backend.Event, 64)
	n, err := u.Wait(dst, 0)
	require.NoError(t, err)
	return dst[:n]
}

// requests returns how many poll requests the kernel has, by /proc/self/fdinfo.
func requests(t *testing.T, u *Uring) (n int) {
	f, err := os.Open("/proc/self/fdinfo/" + strconv.Itoa(u.ring.FD))
	require.NoError(t, err)
	defer f.Close()
	in := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "PollList:":
			in = true
		case in && strings.HasPrefix(line, "  op="):
			n++
		case in && !strings.HasPrefix(line, " "):
			in = false
		}
	}
	return n
}
