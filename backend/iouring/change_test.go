//go:build linux

package iouring

import (
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// Changes by other goroutines during a Wait that does not sleep.

// A Wait that has something to report holds no lock during its system calls, after which
// the scheduler may stop its goroutine. No change waits for it.
// contract: R1
func TestChanges_IndependentOfWaiter(t *testing.T) {
	eachMode(t, "R1: changes do not wait for a goroutine that polls", func(t *testing.T, u *Uring, mode backend.Interest) {
		always, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, u.Add(always.Handle(), 1, backend.Readable|mode))
		old, _ := fixture.Pair(t)
		require.NoError(t, u.Add(old.Handle(), 2, backend.Readable|mode))
		require.Len(t, ready(t, u), 1)
		calls := 0
		u.aroundCall = func(bool) {
			calls++
			done := make(chan struct{})
			go func() {
				defer close(done)
				if err := u.Modify(old.Handle(), 2, backend.Readable|mode); err != nil {
					t.Errorf("Modify: %v", err)
				}
				if err := u.Delete(old.Handle()); err != nil {
					t.Errorf("Delete: %v", err)
				}
				if err := u.Add(old.Handle(), 2, backend.Readable|mode); err != nil {
					t.Errorf("Add: %v", err)
				}
			}()
			<-done
		}
		for range 10 {
			require.NoError(t, u.Modify(always.Handle(), 1, backend.Readable|mode))
			events := ready(t, u)
			require.Len(t, events, 1)
			require.Equal(t, backend.Key(1), events[0].Key)
		}
		if mode == 0 { // not at all in doubt that it need not sleep
			n, err := u.Wait(make([]backend.Event, 4), -1)
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}
		require.GreaterOrEqual(t, calls, 10)
	})
}

// What poll(2) said of a file is not said of the next one that has its number.
// contract: R6
func TestWait_ChangedDuringLook(t *testing.T) {
	eachKind(t, "R6: an event belongs to its registration", func(t *testing.T, u *Uring) {
		a, b := fixture.Pair(t)
		idle, _ := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, u.Add(a.Handle(), 1, backend.Readable))
		require.Len(t, ready(t, u), 1)
		looked := false
		u.aroundCall = func(after bool) {
			if looked || !after || len(u.polls) == 0 || u.exchanging {
				return
			}
			looked = true
			require.NoError(t, u.Delete(a.Handle()))
			require.NoError(t, unix.Dup3(idle.FD, a.FD, unix.O_CLOEXEC))
			require.NoError(t, u.Add(a.Handle(), 2, backend.Readable))
		}
		require.Empty(t, ready(t, u))
		require.True(t, looked)
		require.Empty(t, ready(t, u))
	})
}

// Go's scheduler and profiler send signals. poll(2) says EINTR if one comes and nothing is
// ready, which is not a reason to make all requests anew.
// contract: M2
func TestWait_SignalDuringLook(t *testing.T) {
	eachKind(t, "M2: an edge is reported once", func(t *testing.T, u *Uring) {
		n := fixture.Affordable(t, 500) // so that a look takes a while
		edge, peer := fixture.Pair(t)
		peer.Write("x")
		require.NoError(t, u.Add(edge.Handle(), 1, backend.Readable|backend.Edge))
		ends, closeAll := fixture.ManyPairs(t, n)
		defer closeAll()
		for i, e := range ends {
			require.NoError(t, u.Add(backend.Handle(e[0]), backend.Key(i+2), backend.Readable))
		}
		setTimer := signalTimer(t)
		u.aroundCall = func(after bool) {
			if !after && !u.exchanging && len(u.polls) >= n {
				setTimer(10 * time.Microsecond)
			}
		}
		edges := 0
		dst := make([]backend.Event, 2*n)
		collect := func() (others int) {
			k, err := u.Wait(dst, 0)
			require.NoError(t, err)
			for _, ev := range dst[:k] {
				if ev.Key == 1 {
					edges++
					continue
				}
				others++
				_, err := unix.Read(ends[ev.Key-2][0], make([]byte, 8))
				require.NoError(t, err)
			}
			return others
		}
		for range 10 {
			for _, e := range ends {
				_, err := unix.Write(e[1], []byte("x"))
				require.NoError(t, err)
			}
			for seen := 0; seen < n; {
				seen += collect()
			}
			require.Zero(t, collect())
		}
		require.Equal(t, 1, edges)
	})
}

// signalTimer returns a function that sends the calling thread, after a moment, a SIGURG,
// which Go's runtime ignores.
func signalTimer(t *testing.T) (set func(time.Duration)) {
	const sigevThreadID = 4
	event := struct {
		value          uintptr
		signal, notify int32
		thread         int32
		_              [64]byte
	}{signal: int32(unix.SIGURG), notify: sigevThreadID, thread: int32(unix.Gettid())}
	var timer int32
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&timer)))
	require.Zero(t, errno)
	t.Cleanup(func() { _, _, _ = unix.Syscall(unix.SYS_TIMER_DELETE, uintptr(timer), 0, 0) })
	return func(after time.Duration) {
		spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(after))}
		_, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(timer), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
		require.Zero(t, errno)
	}
}

// A Delete that comes while Wait is about to sleep takes effect before it returns.
// contract: R14
func TestDelete_BeforeTheOwnerSleeps(t *testing.T) {
	for _, comes := range []bool{false, true} {
		name := "and sleeps"
		if comes {
			name = "and an event comes"
		}
		t.Run(name, func(t *testing.T) {
			eachKind(t, "R14: Deregister while a Poll waits", func(t *testing.T, u *Uring) {
				for range 10 {
					a, b := fixture.Pair(t)
					source, peer := fixture.Pair(t)
					require.NoError(t, u.Add(a.Handle(), 1, backend.Readable))
					require.NoError(t, u.Add(source.Handle(), 2, backend.Readable|backend.Edge))
					require.Empty(t, ready(t, u))
					deleted := make(chan struct{})
					begun := false
					u.aroundCall = func(after bool) {
						if begun { // a Delete that does not wait gets ahead
							for range 20 {
								runtime.Gosched()
							}
							return
						}
						begun = true
						if comes {
							peer.Write("x")
						}
						go func() {
							defer close(deleted)
							if err := u.Delete(a.Handle()); err != nil {
								t.Errorf("Delete: %v", err)
							}
							a.Close()
							if _, err := b.TryWrite([]byte("x")); err != unix.EPIPE {
								t.Errorf("the other end does not see it at once: %v", err)
							}
							if err := u.Wake(); err != nil {
								t.Errorf("Wake: %v", err)
							}
						}()
						for waits := false; !waits; runtime.Gosched() {
							u.mu.Lock()
							waits = u.deletes > 0
							u.mu.Unlock()
						}
					}
					dst := make([]backend.Event, 4)
					n, err := u.Wait(dst, -1)
					require.NoError(t, err)
					if comes {
						require.Equal(t, 1, n)
					}
					u.aroundCall = nil
					<-deleted // the owner waits for the other goroutine
					require.NoError(t, u.Delete(source.Handle()))
					n, err = u.Wait(dst, 0)
					require.NoError(t, err)
					require.Zero(t, n)
				}
			})
		})
	}
}
