//go:build unix

package kqueue

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/kq"
)

func TestOpen_WithoutKernel(t *testing.T) {
	require.ErrorIs(t, new(Kqueue).Open(), errors.ErrUnsupported)
}

func TestOpen_DescriptorLimit(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			k := kernel()
			restore := fixture.LowerDescriptorLimit(t)
			err := NewOn(k).Open()
			restore()
			require.ErrorIs(t, err, unix.EMFILE)
			require.ErrorContains(t, err, "kqueue")
		})
	}
}

// A failure halfway leaves no descriptor open.
func TestOpen_FailureLeaksNothing(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			limit := min(fixture.DescriptorLimit(t), 1024)
			before := fixture.OpenDescriptors(limit)
			k := &hooked{Kernel: kernel(), before: func([]kq.Event, []kq.Event) error { return unix.ENOMEM }}
			for range 20 {
				require.ErrorIs(t, NewOn(k).Open(), unix.ENOMEM)
			}
			require.Less(t, fixture.OpenDescriptors(limit), before+20)
		})
	}
}

func TestClose_LeaksNothing(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		limit := min(fixture.DescriptorLimit(t), 1024)
		before := fixture.OpenDescriptors(limit)
		for range 20 {
			p := NewOn(q.kernel)
			require.NoError(t, p.Open())
			require.NoError(t, p.Close())
		}
		require.Less(t, fixture.OpenDescriptors(limit), before+20)
	})
}

// A registration of its descriptor would take the waker's events.
func TestAdd_QueueDescriptors(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		own := []int{q.fd}
		if w, ok := q.waker.(*pipeWaker); ok {
			own = append(own, w.Reader, w.Writer)
		}
		for _, fd := range own {
			h := backend.Handle(fd)
			require.ErrorIs(t, q.Add(h, 2, backend.Readable), unix.EINVAL)
			require.ErrorIs(t, q.Modify(h, 2, backend.Readable), unix.ENOENT)
			require.ErrorIs(t, q.Delete(h), unix.ENOENT)
		}
		require.NoError(t, q.Wake())
		require.Empty(t, wait(t, q, 1, -1))
	})
}

func TestWaker_UserEventWherePresent(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		_, user := q.waker.(*userEvent)
		require.Equal(t, q.sys.HasUser, user, "%s", q.sys.Name)
	})
}

// The headers define user events and the kernel refuses them: the waker is a pipe.
func TestWaker_KernelOlderThanHeaders(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			q := NewOn(&withoutUser{Kernel: kernel()})
			require.NoError(t, q.Open())
			defer q.Close()
			require.IsType(t, &pipeWaker{}, q.waker)
			for range 3 {
				require.NoError(t, q.Wake())
				require.Empty(t, wait(t, q, 1, -1))
			}
			a, b := fixture.Pair(t)
			b.Write("x")
			require.NoError(t, q.Add(a.Handle(), 1, backend.Readable))
			require.NoError(t, q.Wake())
			require.Len(t, wait(t, q, 1, -1), 1)
		})
	}
}

// withoutUser is a kernel whose headers define a user filter that it does not have.
type withoutUser struct{ kq.Kernel }

func (k *withoutUser) System() kq.System {
	s := k.Kernel.System()
	s.HasUser, s.User = true, -99
	return s
}

// Rule P10, on a kernel that does not allocate itself, as simulated ones do.
// contract: P10
func TestAllocations(t *testing.T) {
	k := new(idleKernel)
	q := NewOn(k)
	require.NoError(t, q.Open())
	a, _ := fixture.Pair(t)
	h := a.Handle()
	dst := make([]backend.Event, 4)
	do := func() {
		err := q.Add(h, 1, backend.Readable|backend.Writable|backend.OneShot)
		k.event = kq.Event{Ident: uint64(h), Filter: k.System().Read, Udata: q.generation}
		n, _ := q.Wait(dst, 0)
		if err != nil || n != 1 || q.Modify(h, 2, backend.Readable) != nil || q.Wake() != nil || q.Delete(h) != nil {
			panic("a call failed")
		}
	}
	do()
	require.Zero(t, testing.AllocsPerRun(100, do))
}

// idleKernel is a kernel that takes every change and has one event.
type idleKernel struct{ event kq.Event }

func (*idleKernel) Kqueue() (int, error) { return -1, nil }

func (*idleKernel) Close(int) error { return nil }

func (*idleKernel) System() kq.System {
	return kq.System{Name: "idleKernel", Read: 1, Write: 2, User: 3, HasUser: true}
}

func (k *idleKernel) Kevent(_ int, _, events []kq.Event, _ time.Duration) (int, error) {
	if len(events) == 0 {
		return 0, nil
	}
	events[0] = k.event
	return 1, nil
}

// After Close, the numbers of its descriptors may have other owners. A late call does not
// act on these.
// contract: P9
func TestClose_LateCalls(t *testing.T) {
	each(t, func(t *testing.T, q *Kqueue) {
		numbers := []int{q.fd}
		if w, ok := q.waker.(*pipeWaker); ok {
			numbers = append(numbers, w.Reader, w.Writer)
		}
		source, _ := fixture.Pair(t)
		require.NoError(t, q.Close())
		for _, number := range numbers {
			a, b := fixture.PairAt(t, number)
			require.ErrorIs(t, q.Wake(), unix.EBADF)
			require.ErrorIs(t, q.Add(source.Handle(), 1, backend.Readable), unix.EBADF)
			_, err := q.Wait(make([]backend.Event, 1), 0)
			require.ErrorIs(t, err, unix.EBADF)
			n, err := b.TryRead(make([]byte, 1))
			require.True(t, fixture.WouldBlock(err), "%d, %v: the wake went to %v", n, err, a)
		}
	})
}
