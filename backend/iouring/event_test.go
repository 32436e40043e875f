//go:build linux

package iouring

import (
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// What is reported: the truth, once.

// An event that did not fit into the last batch, and whose source was registered
// again, comes once.
func TestEvent_LeftOverAndRegisteredAgain(t *testing.T) {
	eachMode(t, "M3: one event", func(t *testing.T, u *Uring, mode backend.Interest) {
		var heres []*fixture.End
		for i := range 4 {
			here, there := fixture.Pair(t)
			heres = append(heres, here)
			there.Write("x")
			require.NoError(t, u.Add(here.Handle(), backend.Key(i+1), backend.Readable|mode))
		}
		first := some(t, u, make([]backend.Event, 1))
		require.Len(t, first, 1)
		for i, here := range heres {
			require.NoError(t, u.Delete(here.Handle()))
			require.NoError(t, u.Add(here.Handle(), backend.Key(i+11), backend.Readable|backend.OneShot))
		}
		seen := make(map[backend.Key]int)
		for range 3 {
			for _, ev := range ready(t, u) {
				seen[ev.Key]++
			}
		}
		require.Equal(t, map[backend.Key]int{11: 1, 12: 1, 13: 1, 14: 1}, seen)
	})
}

// A source that is asked about and has a new completion, next to a Wake, is in the
// batch once, however many there is room for.
// contract: P6
func TestEvent_OncePerBatch(t *testing.T) {
	eachMode(t, "P6: the same bit never twice in a batch", func(t *testing.T, u *Uring, mode backend.Interest) {
		const sources = 3
		var heres, theres [sources]*fixture.End
		for i := range sources {
			heres[i], theres[i] = fixture.Pair(t)
			require.NoError(t, u.Add(heres[i].Handle(), backend.Key(i+1), backend.Readable|mode))
		}
		for room := 1; room <= sources+1; room++ {
			for round := range 4 {
				for i := range sources {
					theres[i].Write("x")
					if mode == backend.OneShot {
						require.NoError(t, u.Modify(heres[i].Handle(), backend.Key(i+1), backend.Readable|mode))
					}
				}
				require.NoError(t, u.Wake())
				dst := make([]backend.Event, room)
				n, err := u.Wait(dst, 0)
				require.NoError(t, err)
				require.Equal(t, min(room, sources), n, "round %d with room for %d", round, room)
				seen := make(map[backend.Key]bool)
				for _, ev := range dst[:n] {
					require.False(t, seen[ev.Key], "%v", dst[:n])
					seen[ev.Key] = true
				}
				for range sources { // those that there was no room for
					ready(t, u)
				}
			}
		}
	})
}

// What is over by the time of the Wait is not reported, and what comes then is.
// contract: M9
func TestEvent_ConditionIsOver(t *testing.T) {
	for _, mode := range []backend.Interest{0, backend.OneShot} {
		t.Run(mode.String(), func(t *testing.T) {
			eachKind(t, "M1, M3, M9", func(t *testing.T, u *Uring) {
				a, b := fixture.Pair(t)
				require.NoError(t, u.Add(a.Handle(), 1, backend.Readable|mode))
				for range 3 {
					require.Empty(t, ready(t, u))
					b.Write("x")
					a.Drain()
					require.Empty(t, ready(t, u))
				}
				b.Write("x")
				require.Len(t, some(t, u, make([]backend.Event, 4)), 1)
			})
		})
	}
}

// An edge of a source that was just being read, and so may be over, is asked about.
// contract: M9
func TestEvent_EdgeInDoubt(t *testing.T) {
	eachKind(t, "M9", func(t *testing.T, u *Uring) {
		a, b := fixture.Pair(t)
		require.NoError(t, u.Add(a.Handle(), 1, backend.Readable|backend.Edge))
		require.Empty(t, ready(t, u))
		for range 20 {
			b.Write("x")
			require.Len(t, ready(t, u), 1)
			b.Write("x") // while the loop reads
			a.Drain()
			require.Empty(t, ready(t, u), "all was read")
		}
	})
}

// A level-triggered source is reported for as long as it is ready, without a
// request for each time.
// contract: M1
func TestEvent_LevelTakesOneRequest(t *testing.T) {
	eachKind(t, "M1", func(t *testing.T, u *Uring) {
		a, b := fixture.Pair(t)
		require.NoError(t, u.Add(a.Handle(), 1, backend.Readable))
		require.Empty(t, ready(t, u))
		rec := u.records.Get(uintptr(a.FD))
		request := rec.seq
		for range 5 {
			b.Write("x")
			for range 3 {
				require.Len(t, ready(t, u), 1)
			}
			a.Drain()
			require.Empty(t, ready(t, u))
		}
		require.Equal(t, request, rec.seq)
		require.Equal(t, 2, requests(t, u), "its own, and the eventfd's")
	})
}

// poll(2) refuses more descriptors than the limit is now. Those that it was to be
// asked about are reported all the same.
// contract: M1, E4
func TestEvent_WhenNobodyCanBeAsked(t *testing.T) {
	eachKind(t, "M1, E4", func(t *testing.T, u *Uring) {
		ends, closeAll := fixture.ManyPairs(t, 20)
		defer closeAll()
		for i, e := range ends {
			require.NoError(t, u.Add(backend.Handle(e[0]), backend.Key(i+1), backend.Readable))
			_, err := unix.Write(e[1], []byte("x"))
			require.NoError(t, err)
		}
		require.Len(t, ready(t, u), len(ends))
		var limit unix.Rlimit
		require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
		low := limit
		low.Cur = uint64(len(ends) - 1)
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
		defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }()
		for range 3 {
			require.False(t, poll(make([]unix.PollFd, len(ends))), "or this test would see nothing")
			require.Len(t, ready(t, u), len(ends))
		}
	})
}

// Ordinary data completes a request for urgent data, which must not be believed.
// contract: M10
func TestPriority_OrdinaryDataIsNotUrgent(t *testing.T) {
	eachMode(t, "M10", func(t *testing.T, u *Uring, mode backend.Interest) {
		a, b := fixture.TCPPair(t)
		require.NoError(t, u.Add(a.Handle(), 1, backend.Priority|mode))
		require.Empty(t, ready(t, u))
		for range 3 {
			for range 3 { // so that no event is in doubt for other reasons
				require.Empty(t, ready(t, u))
			}
			b.Write("x")
			a.AwaitReadable()
			require.Empty(t, ready(t, u))
		}
		b.SendUrgent('!')
		require.Equal(t, backend.ReadyPriority, some(t, u, make([]backend.Event, 4))[0].Ready)
	})
}

// A file that says a thing once, to the first that polls it, is polled by nobody
// but the request, and what that says is reported: what happened before Register,
// between two Waits, while one sleeps, and before a Modify.
// contract: R16, M10
func TestConsumed_Mounts(t *testing.T) {
	eachMode(t, "M10, R2, R5", func(t *testing.T, u *Uring, mode backend.Interest) {
		change := ownMounts(t)
		fd, err := unix.Open("/proc/thread-self/mounts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		h := backend.Handle(fd)
		told := func(when string) {
			t.Helper()
			require.True(t, some(t, u, make([]backend.Event, 4))[0].Ready.Has(backend.ReadyPriority), when)
			require.Empty(t, ready(t, u), "and once: %s", when)
			if mode == backend.OneShot {
				require.NoError(t, u.Modify(h, 1, backend.Priority|mode))
				require.Empty(t, ready(t, u))
			}
		}
		change()
		require.NoError(t, u.Add(h, 1, backend.Priority|mode))
		told("before Register")
		for range 3 { // in the second one, the source was just reported
			change()
			told("between two Waits")
		}
		change()
		require.NoError(t, u.Modify(h, 1, backend.Priority|mode))
		told("before Modify")

		first, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, u.Add(first.Handle(), 2, backend.Readable))
		require.Equal(t, backend.Key(2), some(t, u, make([]backend.Event, 1))[0].Key)
		change()
		require.Equal(t, backend.Key(2), some(t, u, make([]backend.Event, 1))[0].Key, "no room for both")
		first.Drain()
		require.NoError(t, u.Modify(h, 1, backend.Priority|mode))
		told("left over, before Modify")
	})
}

// ownMounts gives this thread mounts that nobody else changes, and returns what
// changes them. The thread ends with the test.
func ownMounts(t *testing.T) (change func()) {
	t.Helper()
	runtime.LockOSThread()
	err := unix.Unshare(unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err != nil {
		t.Skipf("no mounts to change here: %v", err)
	}
	dir := t.TempDir()
	t.Cleanup(func() {
		for unix.Unmount(dir, unix.MNT_DETACH) == nil {
		}
	})
	return func() {
		t.Helper()
		require.NoError(t, unix.Mount("none", dir, "tmpfs", 0, ""))
	}
}

// A perf event says once that there is something to read.
// contract: R16
func TestConsumed_PerfEvents(t *testing.T) {
	eachMode(t, "M1, M2, M3", func(t *testing.T, u *Uring, mode backend.Interest) {
		fd := perfEvent(t)
		h := backend.Handle(fd)
		require.NoError(t, u.Add(h, 1, backend.Readable|mode))
		require.ErrorIs(t, u.Add(h, 2, backend.Readable|mode), unix.EEXIST)
		for range 5 {
			require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}, some(t, u, make([]backend.Event, 4)))
			if mode == backend.OneShot {
				require.NoError(t, u.Modify(h, 1, backend.Readable|mode))
			}
		}
		require.NoError(t, u.Delete(h))
		require.ErrorIs(t, u.Delete(h), unix.ENOENT)
		require.NoError(t, u.Add(h, 3, backend.Readable|mode))
		other := perfEvent(t)
		require.NoError(t, unix.Dup3(other, fd, unix.O_CLOEXEC))
		require.ErrorIs(t, u.Modify(h, 4, backend.Readable|mode), unix.ENOENT, "R4: it is another event now")
		require.NoError(t, u.Add(h, 5, backend.Readable|mode), "R7")
	})
}

// perfEvent opens an event that has a sample every 2 ms of processor time of this
// thread or any other, with room for samples to be counted.
func perfEvent(t *testing.T) int {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample: 2e6, Sample_type: unix.PERF_SAMPLE_TIME, Wakeup: 1,
	}
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		t.Skipf("no perf events here: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	ring, err := unix.Mmap(fd, 0, 2*unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Munmap(ring) })
	return fd
}
