//go:build unix

package pollfd

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// A registration of its descriptor would take the events of the pipe.
func TestAdd_QueueDescriptors(t *testing.T) {
	p := opened(t)
	for _, fd := range []int{p.wake.Reader, p.wake.Writer} {
		h := backend.Handle(fd)
		require.ErrorIs(t, p.Add(h, 2, backend.Readable), unix.EINVAL)
		require.ErrorIs(t, p.Modify(h, 2, backend.Readable), unix.ENOENT)
		require.ErrorIs(t, p.Delete(h), unix.ENOENT)
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		require.NoError(t, err)
		require.NotZero(t, flags&unix.FD_CLOEXEC, "children inherit fd %d", fd)
	}
	require.NoError(t, p.Wake())
	require.Empty(t, wait(t, p, -1))
}

// An Add that is refused ends the registration of the closed descriptor that had the
// number.
func TestAdd_NumberOfClosedRefused(t *testing.T) {
	p := opened(t)
	a, _ := fixture.Pair(t)
	require.NoError(t, p.Add(a.Handle(), 1, backend.Readable))
	f := fixture.RegularFile(t)
	number := a.FD
	a.Close()
	require.ErrorIs(t, p.Add(a.Handle(), 2, backend.Readable), unix.EBADF)
	require.Len(t, p.entries, reserved)
	b, _ := fixture.PairAt(t, number)
	require.NoError(t, p.Add(b.Handle(), 3, backend.Readable))
	b.Close()
	f = f.MoveTo(number)
	require.ErrorIs(t, p.Add(f.Handle(), 4, backend.Readable), backend.ErrNotPollable)
	require.Len(t, p.entries, reserved)
}

// After a Wait has found a descriptor closed, changes still report that it is closed.
func TestChanges_ClosedDescriptor(t *testing.T) {
	for _, s := range []system{native, posixSystem} {
		p := &Pollfd{system: s}
		require.NoError(t, p.Open())
		a, _ := fixture.Pair(t)
		require.NoError(t, p.Add(a.Handle(), 1, backend.Readable))
		a.Close()
		require.Empty(t, wait(t, p, 0))
		require.Len(t, p.entries, reserved)
		require.ErrorIs(t, p.Modify(a.Handle(), 2, backend.Readable), unix.EBADF)
		require.ErrorIs(t, p.Delete(a.Handle()), unix.EBADF)
		require.NoError(t, p.Close())
	}
}

// A one-shot registration that has had its event is skipped by poll(2), and stays
// registered.
// contract: M3
func TestOneShot_StaysRegistered(t *testing.T) {
	p := opened(t)
	var ends []*fixture.End
	for k := range backend.Key(5) {
		a, b := fixture.Pair(t)
		b.Write("x")
		ends = append(ends, a)
		require.NoError(t, p.Add(a.Handle(), k+1, backend.Readable|backend.OneShot))
	}
	require.Len(t, wait(t, p, 0), 5)
	require.NoError(t, p.Delete(ends[1].Handle()), "and the last one moves to its place")
	require.Empty(t, wait(t, p, 0), "which stays silent")
	require.NoError(t, p.Modify(ends[4].Handle(), 50, backend.Readable))
	require.Equal(t, []backend.Event{{Key: 50, Ready: backend.ReadyReadable}}, wait(t, p, 0))
	require.ErrorIs(t, p.Add(ends[0].Handle(), 10, backend.Readable), unix.EEXIST)
	number := ends[0].FD
	ends[0].Close() // which poll(2) does not see, because it skips it
	c, d := fixture.PairAt(t, number)
	require.NoError(t, p.Add(c.Handle(), 10, backend.Readable))
	d.Write("y")
	require.Len(t, wait(t, p, 0), 2)
	ends[2].Close()
	require.ErrorIs(t, p.Modify(ends[2].Handle(), 30, backend.Readable), unix.EBADF)
	require.ErrorIs(t, p.Delete(ends[1].Handle()), unix.ENOENT)
	require.NoError(t, p.Delete(ends[3].Handle()))
	require.Len(t, p.entries, reserved+2)
}

// One Wait finds several descriptors closed. The last elements, which may be closed
// ones, take their places.
// contract: R7
func TestWait_ManyClosed(t *testing.T) {
	eachSystem(t, testManyClosed)
}

func testManyClosed(t *testing.T, p *Pollfd) {
	var ends []*fixture.End
	for k := range backend.Key(8) {
		a, b := fixture.Pair(t)
		b.Write("x")
		ends = append(ends, a)
		require.NoError(t, p.Add(a.Handle(), k, backend.Readable))
	}
	for _, i := range []int{0, 2, 3, 6, 7} {
		ends[i].Close()
	}
	seen := map[backend.Key]bool{}
	for range 2 { // DragonFly reports those that are closed first
		for _, ev := range wait(t, p, 0) {
			seen[ev.Key] = true
		}
	}
	require.Equal(t, map[backend.Key]bool{1: true, 4: true, 5: true}, seen)
	require.Len(t, p.entries, reserved+3)
	for _, i := range []int{1, 4, 5} {
		require.NoError(t, p.Delete(ends[i].Handle()))
	}
	require.Len(t, p.entries, reserved)
}

// Each change wakes the waiter. No change waits until the waiter has an event, or is
// kept waiting by a waiter that comes again at once.
// contract: R1
func TestChanges_WhileWaiting(t *testing.T) {
	p := opened(t)
	a, b := fixture.Pair(t)
	b.Write("x")
	var waiting sync.WaitGroup
	over := make(chan struct{})
	waiting.Go(func() {
		dst := make([]backend.Event, 4)
		for {
			select {
			case <-over:
				return
			default:
				if _, err := p.Wait(dst, -1); err != nil && err != unix.EINTR {
					assert.NoError(t, err)
					return
				}
			}
		}
	})
	for k := range backend.Key(5000) {
		require.NoError(t, p.Add(a.Handle(), k+1, backend.Writable|backend.OneShot))
		require.NoError(t, p.Modify(a.Handle(), k+1, backend.Priority))
		require.NoError(t, p.Delete(a.Handle()))
	}
	close(over)
	require.NoError(t, p.Wake())
	waiting.Wait()
}
