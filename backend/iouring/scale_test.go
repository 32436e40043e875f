//go:build linux

package iouring

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

// A Wait enters the kernel once, however many requests have completed. The kernel completes
// only 20 unless it is told to wait for more.
func TestWait_OneEnter(t *testing.T) {
	stop := backendtest.Watchdog(t, "G2: the cost of an event")
	defer stop()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	u, _ := opened(t, kinds[0])
	const sources = 100
	ends, closeAll := fixture.ManyPairs(t, sources)
	defer closeAll()
	for i, e := range ends {
		require.NoError(t, u.Add(backend.Handle(e[0]), backend.Key(i+1), backend.Readable|backend.Edge))
	}
	require.Empty(t, ready(t, u))
	enters := 0
	u.aroundCall = func(after bool) {
		if after && u.exchanging {
			enters++
		}
	}
	dst := make([]backend.Event, sources)
	buf := make([]byte, 8)
	for range 5 {
		for _, e := range ends {
			_, err := unix.Write(e[1], []byte("x"))
			require.NoError(t, err)
		}
		enters = 0
		n, err := u.Wait(dst, 0)
		require.NoError(t, err)
		require.Equal(t, sources, n)
		for _, e := range ends {
			_, err := unix.Read(e[0], buf)
			require.NoError(t, err)
		}
		require.Empty(t, ready(t, u)) // so that the next edges are in no doubt
	}
	require.LessOrEqual(t, enters, 2, "one for the events, and one that finds no more")
}

// The completion queue overflows when more happens than it holds. The kernel keeps
// the rest, and ends multishot requests. Nothing may be lost or come twice.
// contract: E4
func TestWait_Overflow(t *testing.T) {
	for _, k := range []kind{{name: "small", entries: 1}, {name: "small, Linux 6.0", entries: 1, flags: setupFlags[1:]}} {
		for _, mode := range modes {
			t.Run(k.name+" "+mode.String(), func(t *testing.T) {
				stop := backendtest.Watchdog(t, "100,000 simultaneous events through a small ring, none lost, none twice")
				defer stop()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				u, _ := opened(t, k)
				overflow(t, u, mode)
			})
		}
	}
}

func overflow(t *testing.T, u *Uring, mode backend.Interest) {
	sources, wanted := 1000, 5000
	if backendtest.Long() {
		sources, wanted = 9000, 100_000
	}
	sources = fixture.Affordable(t, sources)
	ends, closeAll := fixture.ManyPairs(t, sources)
	defer closeAll()
	for i, e := range ends {
		require.NoError(t, u.Add(backend.Handle(e[0]), backend.Key(i+1), backend.Readable|mode))
	}
	require.Empty(t, ready(t, u))
	overflowed := false
	events := 0
	dst := make([]backend.Event, 300)
	buf := make([]byte, 8)
	for events < wanted {
		for _, e := range ends {
			_, err := unix.Write(e[1], []byte("x"))
			require.NoError(t, err)
		}
		_, errno := u.ring.Finish() // requests complete when the owner enters
		require.Zero(t, errno)
		overflowed = overflowed || u.ring.Overflowed()
		seen := make([]bool, sources)
		for left := sources; left > 0; {
			n, err := u.Wait(dst, time.Minute)
			require.NoError(t, err)
			for _, ev := range dst[:n] {
				i := int(ev.Key) - 1
				require.False(t, seen[i], "%d came twice", i)
				seen[i] = true
				left--
				if mode == 0 { // or it would come again, as it should
					_, err := unix.Read(ends[i][0], buf)
					require.NoError(t, err)
				}
			}
		}
		require.Empty(t, ready(t, u), "all have come, and nothing changed")
		for i, e := range ends {
			if mode != 0 {
				_, err := unix.Read(e[0], buf)
				require.NoError(t, err)
			}
			if mode == backend.OneShot {
				require.NoError(t, u.Modify(backend.Handle(e[0]), backend.Key(i+1), backend.Readable|mode))
			}
		}
		require.Empty(t, ready(t, u), "all are read")
		events += sources
	}
	require.True(t, overflowed, "or this test would see nothing")
	t.Logf("reached %d events of 100,000, %d at once through %d completions", events, sources, u.ring.CQEntries)
}

// Eight goroutines register, make ready, and deregister, while one waits. Each
// registration must get its event. In the end the kernel has no request left but
// the eventfd's, and the memory is as before.
// contract: E4
func TestRegistration_LeavesNothingBehind(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			stop := backendtest.Watchdog(t, "1,000,000 events with 8 goroutines that register and deregister, nothing lost, nothing left behind")
			defer stop()
			u, _ := opened(t, k)
			withoutEnd(t, u)
		})
	}
}

func withoutEnd(t *testing.T, u *Uring) {
	wanted := int64(4000)
	if backendtest.Long() {
		wanted = 1_000_000
	}
	const goroutines, each = 8, 4
	var changes sync.Mutex // the core's promise: one change at a time
	change := func(do func() error) {
		changes.Lock()
		defer changes.Unlock()
		if err := do(); err != nil {
			t.Errorf("%v", err)
		}
	}
	var events atomic.Int64
	var over atomic.Bool
	var came [goroutines*each + 1]chan struct{}
	var heres, theres [goroutines * each]*fixture.End
	for i := range heres {
		heres[i], theres[i] = fixture.Pair(t)
		came[i+1] = make(chan struct{}, 1)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		dst := make([]backend.Event, 16)
		timeout := time.Duration(-1)
		for last := false; !last; {
			if over.Load() {
				timeout, last = 0, true
			}
			n, err := u.Wait(dst, timeout)
			if err != nil {
				t.Errorf("Wait: %v", err)
			}
			for _, ev := range dst[:n] {
				events.Add(1)
				select {
				case came[ev.Key] <- struct{}{}:
				default:
				}
			}
		}
	})
	run := func(until int64) {
		var working sync.WaitGroup
		for g := range goroutines {
			working.Go(func() {
				modes := []backend.Interest{backend.Edge, 0, backend.OneShot}
				buf := make([]byte, 8)
				for round := 0; events.Load() < until; round++ {
					for i := g * each; i < (g+1)*each; i++ {
						select { // a second one of the last round
						case <-came[i+1]:
						default:
						}
						change(func() error {
							return u.Add(heres[i].Handle(), backend.Key(i+1), backend.Readable|modes[(round+i)%3])
						})
					}
					for i := g * each; i < (g+1)*each; i++ {
						_, _ = theres[i].TryWrite([]byte("x"))
					}
					for i := g * each; i < (g+1)*each; i++ {
						<-came[i+1] // or the watchdog says that it was lost
						_, _ = heres[i].TryRead(buf)
						change(func() error { return u.Delete(heres[i].Handle()) })
					}
				}
			})
		}
		working.Wait()
	}
	run(wanted / 10)
	before := fixture.Heap()
	run(wanted)
	grown := fixture.Heap() - before
	over.Store(true)
	require.NoError(t, u.Wake())
	waiting.Wait()
	require.Less(t, grown, int64(64<<10), "bytes of the heap")
	require.Equal(t, 1, requests(t, u), "in the kernel, the eventfd's")
	t.Logf("reached %d of 1,000,000 events, the heap grew by %d bytes", events.Load(), grown)
}
