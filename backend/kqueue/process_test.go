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

// renamed is a kernel in which a process has another PID.
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

// A process may have the number of any descriptor, including those of the waker.
// contract: S5
func TestProcess_PIDEqualsDescriptor(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			k := &renamed{Kernel: kernel()}
			q := NewOn(k)
			require.NoError(t, q.Open())
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
				require.Empty(t, wait(t, q, 4, time.Hour), "it cannot be woken")
			}
		})
	}
}

// A Wait that has received the event, and has not reported it yet, drops it.
// contract: S5
func TestProcess_UnwatchedDuringWait(t *testing.T) {
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
			require.NoError(t, q.UnwatchProcess(p.Pid, 2), "with another key")
			require.NoError(t, q.UnwatchProcess(p.Pid, 1))
			return nil
		}
		require.Empty(t, wait(t, q, 4, 0))
		require.Nil(t, k.after)
		require.NoError(t, q.UnwatchProcess(p.Pid, 1), "again")
	})
}

// The next process with that PID does not get the event of the first.
// contract: S5
func TestProcess_NextProcessWithPID(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			h := &hooked{Kernel: kernel()}
			k := &renamed{Kernel: h, as: 7}
			q := NewOn(k)
			require.NoError(t, q.Open())
			defer q.Close()
			first, p := fixture.NewChild(t)
			second, s := fixture.NewChild(t)
			k.pid = uint64(p.Pid)
			require.NoError(t, q.WatchProcess(7, 1))
			first.End()
			h.after = func(events []kq.Event) error { // received, and not reported yet
				h.after = nil
				require.NoError(t, q.UnwatchProcess(7, 1))
				first.Wait(p.Pid)
				k.pid = uint64(s.Pid)
				require.NoError(t, q.WatchProcess(7, 2))
				k.pid = uint64(p.Pid) // for the event that was received
				return nil
			}
			require.Empty(t, wait(t, q, 4, 0))
			k.pid = uint64(s.Pid)
			second.End()
			require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, wait(t, q, 4, 0))
		})
	}
}

// An UnwatchProcess for the first process leaves the next one with that PID alone.
// contract: S5
func TestProcess_LateUnwatch(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			k := &renamed{Kernel: kernel(), as: 7}
			q := NewOn(k)
			require.NoError(t, q.Open())
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

// contract: S5
func TestProcess_UnwatchDeletesKnote(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		_, p := fixture.NewChild(t)
		require.NoError(t, q.WatchProcess(p.Pid, 1))
		require.NoError(t, q.UnwatchProcess(p.Pid, 1))
		probe := []kq.Event{{Ident: uint64(p.Pid), Filter: q.sys.Proc, Flags: kq.Enable, Fflags: kq.Exit}}
		_, err := q.kernel.Kevent(q.fd, probe, nil, 0)
		require.Equal(t, unix.ENOENT, err)
	})
}

// A kernel that refuses: nothing stays registered.
func TestProcess_Refused(t *testing.T) {
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
