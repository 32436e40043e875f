//go:build unix

package kqueue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/kq"
)

// each runs a test on an open queue of each kernel: the system's, or simulated ones.
func each(t *testing.T, run func(t *testing.T, q *Kqueue)) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			q := NewOn(kernel())
			require.NoError(t, q.Open())
			t.Cleanup(func() { _ = q.Close() })
			run(t, q)
		})
	}
}

// wait calls Wait until a signal does not interrupt it, as the core does.
func wait(t *testing.T, q *Kqueue, room int, timeout time.Duration) []backend.Event {
	t.Helper()
	dst := make([]backend.Event, room)
	for {
		n, err := q.Wait(dst, timeout)
		if err == unix.EINTR {
			continue
		}
		require.NoError(t, err)
		return dst[:n]
	}
}

// hooked is a kernel in which a test observes or answers calls.
type hooked struct {
	kq.Kernel
	before func(changes, events []kq.Event) error
	after  func(events []kq.Event) error
}

func (k *hooked) Kevent(fd int, changes, events []kq.Event, timeout time.Duration) (int, error) {
	if k.before != nil {
		if err := k.before(changes, events); err != nil {
			return 0, err
		}
	}
	n, err := k.Kernel.Kevent(fd, changes, events, timeout)
	if k.after != nil && err == nil {
		if err := k.after(events); err != nil {
			return 0, err
		}
	}
	return n, err
}

// eachHooked is each on a hooked kernel.
func eachHooked(t *testing.T, run func(t *testing.T, k *hooked, q *Kqueue)) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			k := &hooked{Kernel: kernel()}
			q := NewOn(k)
			require.NoError(t, q.Open())
			t.Cleanup(func() { k.before, k.after = nil, nil; _ = q.Close() })
			run(t, k, q)
		})
	}
}

// returns fails the test if do does not return. A Wait that spins cannot be interrupted.
func returns(t *testing.T, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { do(); close(done) }()
	select {
	case <-done:
	case <-time.After(fixture.Soon):
		t.Fatal("it does not return")
	}
}
