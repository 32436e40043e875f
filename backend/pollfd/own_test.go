//go:build unix

package pollfd

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// What only this backend can get wrong.

func opened(t *testing.T) *Pollfd {
	p := New()
	require.NoError(t, p.Open(backend.Config{}))
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// wait is one Wait; Go's runtime interrupts threads by signals, and that is to be
// borne here as in the core.
func wait(t *testing.T, p *Pollfd, timeout time.Duration) []backend.Event {
	t.Helper()
	dst := make([]backend.Event, 8)
	begin := time.Now()
	for left := timeout; ; left = max(timeout-time.Since(begin), 0) {
		if timeout < 0 {
			left = timeout
		}
		n, err := p.Wait(dst, left)
		if err == unix.EINTR {
			continue
		}
		require.NoError(t, err)
		return dst[:n]
	}
}

// Taken over by a registration of its number, the pipe would wake nobody.
func TestItsOwnDescriptorsAreNotForOthers(t *testing.T) {
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

func TestOpenTwice(t *testing.T) {
	p := opened(t)
	wake := p.wake
	require.ErrorIs(t, p.Open(backend.Config{}), unix.EBUSY)
	require.Equal(t, wake, p.wake)
}

func TestNotOpen(t *testing.T) {
	closed := opened(t)
	require.NoError(t, closed.Close())
	require.NoError(t, closed.Close(), "again")
	for _, p := range []*Pollfd{New(), closed} {
		require.ErrorIs(t, p.Add(0, 1, backend.Readable), unix.EBADF)
		require.ErrorIs(t, p.Modify(0, 1, backend.Readable), unix.EBADF)
		require.ErrorIs(t, p.Delete(0), unix.EBADF)
		_, err := p.Wait(make([]backend.Event, 1), 0)
		require.ErrorIs(t, err, unix.EBADF)
		require.ErrorIs(t, p.Wake(), unix.EBADF)
	}
	require.ErrorIs(t, new(Pollfd).Open(backend.Config{}), unix.EINVAL, "made without New")
}

// What was registered before it was closed is forgotten.
func TestOpenAgain(t *testing.T) {
	p := opened(t)
	a, b := fixture.Pair(t)
	b.Write("x")
	require.NoError(t, p.Add(a.Handle(), 1, backend.Readable))
	require.NoError(t, p.Close())
	require.NoError(t, p.Open(backend.Config{}))
	require.Empty(t, wait(t, p, 0))
	require.ErrorIs(t, p.Delete(a.Handle()), unix.ENOENT)
	require.NoError(t, p.Add(a.Handle(), 2, backend.Readable))
	require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, wait(t, p, 0))
}

func TestOpenFailsWithoutLeaks(t *testing.T) {
	restore := fixture.LowerDescriptorLimit(t)
	err := New().Open(backend.Config{})
	restore()
	require.ErrorIs(t, err, unix.EMFILE)
	require.ErrorContains(t, err, "pipe")
}

func TestCloseLeaksNothing(t *testing.T) {
	r, _ := fixture.Pipe(t)
	limit := min(fixture.DescriptorLimit(t), 1024)
	before := fixture.OpenDescriptors(limit)
	for range 20 {
		p := New()
		require.NoError(t, p.Open(backend.Config{}))
		require.NoError(t, p.Add(r.Handle(), 1, backend.Readable)) // now there is a book
		require.NoError(t, p.Close())
	}
	require.Less(t, fixture.OpenDescriptors(limit), before+20)
}

// What a wait has found closed is no less closed for it.
func TestClosedAndFoundOut(t *testing.T) {
	for _, s := range []system{native, posixSystem} {
		p := &Pollfd{system: s}
		require.NoError(t, p.Open(backend.Config{}))
		a, _ := fixture.Pair(t)
		require.NoError(t, p.Add(a.Handle(), 1, backend.Readable))
		a.Close()
		require.Empty(t, wait(t, p, 0))
		require.Len(t, p.fds, 1)
		require.ErrorIs(t, p.Modify(a.Handle(), 2, backend.Readable), unix.EBADF)
		require.ErrorIs(t, p.Delete(a.Handle()), unix.EBADF)
		require.NoError(t, p.Close())
	}
}

// A refusal of what has a closed descriptor's number ends what was registered.
func TestANumberThatCannotBeRegistered(t *testing.T) {
	p := opened(t)
	a, _ := fixture.Pair(t)
	require.NoError(t, p.Add(a.Handle(), 1, backend.Readable))
	f := fixture.RegularFile(t)
	number := a.FD
	a.Close()
	require.ErrorIs(t, p.Add(a.Handle(), 2, backend.Readable), unix.EBADF)
	require.Len(t, p.fds, 1, "the pipe")
	b, _ := fixture.PairAt(t, number)
	require.NoError(t, p.Add(b.Handle(), 3, backend.Readable))
	b.Close()
	f = f.MoveTo(number)
	require.ErrorIs(t, p.Add(f.Handle(), 4, backend.Readable), backend.ErrNotPollable)
	require.Len(t, p.fds, 1)
}

// A pipe has room for 65,536 bytes or less.
func TestWakesBeyondThePipesRoom(t *testing.T) {
	p := opened(t)
	for range 100_000 {
		require.NoError(t, p.Wake())
	}
	a, b := fixture.Pair(t)
	b.Write("x")
	require.NoError(t, p.Add(a.Handle(), 1, backend.Readable|backend.OneShot))
	require.Len(t, wait(t, p, -1), 1)
	begin := time.Now()
	require.Empty(t, wait(t, p, 10*time.Millisecond), "the wakes are over")
	require.GreaterOrEqual(t, time.Since(begin), 10*time.Millisecond)
}

// A one-shot registration that has had its event is passed over by poll(2), and
// still is one.
func TestShotRegistrations(t *testing.T) {
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
	ends[0].Close() // unseen: it is not looked at
	c, d := fixture.PairAt(t, number)
	require.NoError(t, p.Add(c.Handle(), 10, backend.Readable))
	d.Write("y")
	require.Len(t, wait(t, p, 0), 2)
	ends[2].Close()
	require.ErrorIs(t, p.Modify(ends[2].Handle(), 30, backend.Readable), unix.EBADF)
	require.ErrorIs(t, p.Delete(ends[1].Handle()), unix.ENOENT)
	require.NoError(t, p.Delete(ends[3].Handle()))
	require.Len(t, p.fds, 3, "the pipe, and two sources")
}

// Some found closed at once, among others: their places are filled with the last
// ones, which may be among them.
func TestManyClosedAtOnce(t *testing.T) {
	p := opened(t)
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
	for _, ev := range wait(t, p, 0) {
		seen[ev.Key] = true
	}
	require.Equal(t, map[backend.Key]bool{1: true, 4: true, 5: true}, seen)
	require.Len(t, p.fds, 4, "the pipe, and three sources")
	for _, i := range []int{1, 4, 5} {
		require.NoError(t, p.Delete(ends[i].Handle()))
	}
	require.Len(t, p.fds, 1)
}

// poll(2) takes no more elements than a process may have descriptors: should that
// limit be lowered below what is registered, the Wait says so.
func TestMoreThanTheLimit(t *testing.T) {
	p := opened(t)
	ends, closeAll := fixture.ManyPairs(t, 40)
	defer closeAll()
	for i, e := range ends {
		require.NoError(t, p.Add(backend.Handle(e[0]), backend.Key(i+1), backend.Readable))
	}
	var was unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	low := was
	low.Cur = 20
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	_, err := p.Wait(make([]backend.Event, 1), 0)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was))
	if err == nil {
		t.Skip("this system's poll(2) does not mind")
	}
	require.ErrorIs(t, err, unix.EINVAL)
	require.ErrorContains(t, err, "RLIMIT_NOFILE")
	_, err = unix.Write(ends[7][1], []byte("x"))
	require.NoError(t, err)
	require.Equal(t, []backend.Event{{Key: 8, Ready: backend.ReadyReadable}}, wait(t, p, 0), "and nothing is lost")
}

// Each change calls the waiter back; none waits for it to have something to report,
// and none is kept waiting by a waiter that comes again at once.
func TestChangesBesideASleepingWait(t *testing.T) {
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
