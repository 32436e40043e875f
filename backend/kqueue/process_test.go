//go:build unix

package kqueue

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/kq"
)

// renamed is a kernel in which a process has another number.
type renamed struct {
	kq.Kernel
	pid, as uint64
}

func (k *renamed) Kevent(fd int, changes, events []kq.Event, timeout time.Duration) (int, error) {
	rename := func(events []kq.Event, from, to uint64) (list []kq.Event) {
		for _, ev := range events {
			if ev.Filter == k.System().Proc && ev.Ident == from {
				ev.Ident = to
			}
			list = append(list, ev)
		}
		return list
	}
	n, err := k.Kernel.Kevent(fd, rename(changes, k.as, k.pid), events, timeout)
	copy(events, rename(events[:n], k.pid, k.as))
	return n, err
}

// A process may have the number of any descriptor, also of those that wake the queue.
func TestNumbersOfProcesses(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			k := &renamed{Kernel: kernel()}
			q := NewOn(k)
			require.NoError(t, q.Open(backend.Config{}))
			defer q.Close()
			r, w := fixture.Pipe(t)
			numbers := []int{q.fd, r.FD}
			if w, ok := q.waker.(*pipeWaker); ok {
				numbers = append(numbers, w.Reader, w.Writer)
			}
			require.NoError(t, q.Add(r.Handle(), 1, backend.Readable))
			for _, number := range numbers {
				child, p := fixture.NewChild(t)
				k.pid, k.as = uint64(p.Pid), uint64(number)
				require.NoError(t, q.WatchProcess(number, 2))
				require.Empty(t, wait(t, q, 4, 0))
				w.Write("x")
				require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}, wait(t, q, 4, 0))
				r.Drain()
				child.End()
				require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, wait(t, q, 4, 0))
				require.NoError(t, q.UnwatchProcess(number, 2))
				require.NoError(t, q.Wake())
				require.Empty(t, wait(t, q, 4, time.Hour), "it still can be woken")
			}
		})
	}
}

// What a Wait has got from the kernel, and not reported yet, is stale by then.
func TestProcessUnwatchedDuringAWait(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		child, p := fixture.NewChild(t)
		require.NoError(t, q.WatchProcess(p.Pid, 1))
		child.End()
		k.after = func(events []kq.Event) error {
			k.after = nil
			if len(events) == 0 {
				return nil
			}
			require.ErrorIs(t, q.WatchProcess(p.Pid, 2), unix.EEXIST)
			require.NoError(t, q.UnwatchProcess(p.Pid, 2), "of another key")
			require.NoError(t, q.UnwatchProcess(p.Pid, 1))
			return nil
		}
		require.Empty(t, wait(t, q, 4, 0))
		require.Nil(t, k.after)
		require.NoError(t, q.UnwatchProcess(p.Pid, 1), "again")
	})
}

// The next one of that number has nothing of it.
func TestProcessAfterAnother(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			h := &hooked{Kernel: kernel()}
			k := &renamed{Kernel: h, as: 7}
			q := NewOn(k)
			require.NoError(t, q.Open(backend.Config{}))
			defer q.Close()
			first, p := fixture.NewChild(t)
			second, s := fixture.NewChild(t)
			k.pid = uint64(p.Pid)
			require.NoError(t, q.WatchProcess(7, 1))
			first.End()
			h.after = func(events []kq.Event) error { // got, and not reported
				h.after = nil
				require.NoError(t, q.UnwatchProcess(7, 1))
				first.Wait(p.Pid)
				k.pid = uint64(s.Pid)
				require.NoError(t, q.WatchProcess(7, 2))
				k.pid = uint64(p.Pid) // for the event on its way
				return nil
			}
			require.Empty(t, wait(t, q, 4, 0))
			k.pid = uint64(s.Pid)
			second.End()
			require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, wait(t, q, 4, 0))
		})
	}
}

// Nor has the end of the first one to do with it, when it comes after all.
func TestProcessUnwatchedAfterAnother(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			k := &renamed{Kernel: kernel(), as: 7}
			q := NewOn(k)
			require.NoError(t, q.Open(backend.Config{}))
			defer q.Close()
			for key := backend.Key(1); key < 4; key++ {
				child, p := fixture.NewChild(t)
				k.pid = uint64(p.Pid)
				require.NoError(t, q.WatchProcess(7, key))
				require.NoError(t, q.UnwatchProcess(7, key-1))
				child.End()
				require.Equal(t, []backend.Event{{Key: key, Ready: backend.ReadyReadable}}, wait(t, q, 4, 0))
			}
		})
	}
}

// Nothing of it stays in the kernel.
func TestProcessUnwatched(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		_, p := fixture.NewChild(t)
		require.NoError(t, q.WatchProcess(p.Pid, 1))
		require.NoError(t, q.UnwatchProcess(p.Pid, 1))
		probe := []kq.Event{{Ident: uint64(p.Pid), Filter: q.sys.Proc, Flags: kq.Enable, Fflags: kq.Exit}}
		_, err := q.kernel.Kevent(q.fd, probe, nil, 0)
		require.Equal(t, unix.ENOENT, err)
	})
}

func TestProcessOfAClosedQueue(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		_, p := fixture.NewChild(t)
		require.NoError(t, q.Close())
		require.ErrorIs(t, q.WatchProcess(p.Pid, 1), unix.EBADF)
		require.ErrorIs(t, q.UnwatchProcess(p.Pid, 1), unix.EBADF)
	})
}

// A kernel that has no memory for it, or does not let: nothing is left.
func TestProcessRefused(t *testing.T) {
	eachHooked(t, func(t *testing.T, k *hooked, q *Kqueue) {
		child, p := fixture.NewChild(t)
		k.before = func(changes, _ []kq.Event) error {
			if len(changes) > 0 {
				return unix.EACCES
			}
			return nil
		}
		require.ErrorIs(t, q.WatchProcess(p.Pid, 1), unix.EACCES)
		k.before = nil
		require.NoError(t, q.WatchProcess(p.Pid, 2))
		child.End()
		require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, wait(t, q, 4, 0))
	})
}

// A descriptor for one process, for another queue or poll(2).
func TestOpenProcess(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		child, p := fixture.NewChild(t)
		fd, err := openProcess(q.kernel, p.Pid)
		require.NoError(t, err)
		defer q.kernel.Close(fd)
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, q.Add(backend.Handle(fd), 1, backend.Readable|backend.OneShot))
		require.NoError(t, q.WatchProcess(p.Pid, 2), "whatever watches it elsewhere")
		require.Empty(t, wait(t, q, 4, 0))
		child.End()
		for range 2 { // and for good
			n, err = unix.Poll(fds, int(fixture.Soon.Milliseconds()))
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}
		require.ElementsMatch(t, []backend.Event{
			{Key: 1, Ready: backend.ReadyReadable}, {Key: 2, Ready: backend.ReadyReadable},
		}, wait(t, q, 4, 0))
		child.Wait(p.Pid)

		limit := min(fixture.DescriptorLimit(t), 1024)
		before := fixture.OpenDescriptors(limit)
		for range 20 {
			_, err = openProcess(q.kernel, p.Pid)
			require.ErrorIs(t, err, os.ErrProcessDone)
			require.ErrorIs(t, err, unix.ESRCH)
		}
		require.Less(t, fixture.OpenDescriptors(limit), before+20)
	})
	if newNative == nil {
		_, err := OpenProcess(1)
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
}
