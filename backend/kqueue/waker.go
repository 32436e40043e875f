//go:build unix

package kqueue

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/pipe"
	"github.com/epore/epore/internal/kq"
)

// waker ends a wait in the kernel: by a user event, or by a pipe where the kernel has
// no user events.
type waker interface {
	wake() error
	// consume reports whether ev is an event of the waker. If it is, the waker is ready
	// to wake again.
	consume(ev *kq.Event) bool
	// has reports whether h is a descriptor of the waker.
	has(h backend.Handle) bool
	close() error
}

// newWaker tries a user event even if it may fail: the headers of a system may be newer
// than its kernel.
func newWaker(k kq.Kernel, sys kq.System, fd int) (waker, error) {
	if sys.HasUser {
		u := &userEvent{k, fd, sys.User, []kq.Event{{Filter: sys.User, Fflags: kq.Trigger}}}
		// It is triggered later: FreeBSD ignores a trigger in the change that adds.
		add := []kq.Event{{Filter: sys.User, Flags: kq.Add | kq.Clear}}
		if _, err := k.Kevent(fd, add, nil, 0); err == nil {
			return u, nil
		}
	}
	p, err := pipe.Open()
	if err != nil {
		return nil, fmt.Errorf("pipe that wakes the kqueue: %w", err)
	}
	w := &pipeWaker{p}
	change := kq.Event{Ident: uint64(p.Reader), Filter: sys.Read, Flags: kq.Add}
	if _, err := k.Kevent(fd, []kq.Event{change}, nil, 0); err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("kevent for the pipe that wakes the kqueue: %w", err)
	}
	return w, nil
}

// userEvent is a waker that uses EVFILT_USER.
type userEvent struct {
	kernel kq.Kernel
	fd     int
	filter int32
	// trigger is the change that wakes. It never changes, so goroutines share it.
	trigger []kq.Event
}

func (u *userEvent) wake() error {
	_, err := u.kernel.Kevent(u.fd, u.trigger, nil, 0)
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("kevent to trigger the user event: %w", err)
	}
	return nil
}

func (u *userEvent) consume(ev *kq.Event) bool { return ev.Filter == u.filter }
func (u *userEvent) has(backend.Handle) bool   { return false }

func (u *userEvent) close() error {
	u.fd = -1
	return nil
}

// pipeWaker is a waker that uses a pipe.
type pipeWaker struct{ pipe.Pipe }

func (w *pipeWaker) wake() error { return w.Write() }

func (w *pipeWaker) consume(ev *kq.Event) bool {
	if ev.Ident != uint64(w.Reader) {
		return false
	}
	w.Drain()
	return true
}

func (w *pipeWaker) has(h backend.Handle) bool { return w.Has(h) }
func (w *pipeWaker) close() error              { return w.Close() }
