//go:build unix

package kqueue

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/pipe"
	"github.com/epore/epore/internal/kq"
)

// waker wakes a kqueue: by a user event, or, where the kernel has none, by a pipe.
type waker interface {
	wake() error
	// woken reports that ev is the waker's, and settles it.
	woken(ev *kq.Event) bool
	has(h backend.Handle) bool
	close() error
}

// newWaker asks the kernel what it has: headers know more than older kernels.
func newWaker(k kq.Kernel, sys kq.System, fd int) (waker, error) {
	if sys.HasUser {
		u := &userEvent{k, fd, sys.User, []kq.Event{{Filter: sys.User, Fflags: kq.Trigger}}}
		// Added first and triggered later: FreeBSD forgets a trigger that comes along.
		add := []kq.Event{{Filter: sys.User, Flags: kq.Add | kq.Clear}}
		if _, err := k.Kevent(fd, add, nil, 0); err == nil {
			return u, nil
		}
	}
	p, err := pipe.Open()
	if err != nil {
		return nil, fmt.Errorf("the pipe to wake it: %w", err)
	}
	w := &pipeWaker{p}
	change := kq.Event{Ident: uint64(p.Reader), Filter: sys.Read, Flags: kq.Add}
	if _, err := k.Kevent(fd, []kq.Event{change}, nil, 0); err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("kevent of the pipe to wake it: %w", err)
	}
	return w, nil
}

type userEvent struct {
	kernel kq.Kernel
	fd     int
	filter int32
	// trigger is the change that wakes: the same each time, and for many at once.
	trigger []kq.Event
}

func (u *userEvent) wake() error {
	_, err := u.kernel.Kevent(u.fd, u.trigger, nil, 0)
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("kevent to trigger the user event: %w", err)
	}
	return nil
}

func (u *userEvent) woken(ev *kq.Event) bool { return ev.Filter == u.filter }
func (u *userEvent) has(backend.Handle) bool { return false }
func (u *userEvent) close() error            { return nil }

type pipeWaker struct{ pipe.Pipe }

func (w *pipeWaker) wake() error { return w.Write() }

func (w *pipeWaker) woken(ev *kq.Event) bool {
	if ev.Ident != uint64(w.Reader) {
		return false
	}
	w.Drain()
	return true
}

func (w *pipeWaker) has(h backend.Handle) bool { return w.Has(h) }
func (w *pipeWaker) close() error              { return w.Close() }
