package epore_test

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/internal/fixture"
)

// mounts is the list of mounts of a mount namespace, which reports each change once, to
// whoever polls it first; and a function that changes it.
func mounts(t *testing.T) (fd int, change func()) {
	dir := t.TempDir()
	changes, done := make(chan struct{}), make(chan error)
	opened := make(chan int)
	go func() {
		runtime.LockOSThread() // the thread ends with this goroutine, and the namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			done <- err
			return
		}
		if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			done <- err
			return
		}
		fd, err := unix.Open("/proc/thread-self/mounts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- err
			return
		}
		opened <- fd
		mounted := false
		for range changes {
			if mounted {
				err = unix.Unmount(dir, unix.MNT_DETACH)
			} else {
				err = unix.Mount("none", dir, "tmpfs", 0, "")
			}
			mounted = !mounted
			done <- err
		}
	}()
	select {
	case fd = <-opened:
	case err := <-done:
		t.Skipf("a mount namespace cannot be made here: %v", err)
	}
	t.Cleanup(func() {
		close(changes)
		unix.Close(fd)
	})
	return fd, func() {
		t.Helper()
		changes <- struct{}{}
		require.NoError(t, <-done)
	}
}

// registerOnce registers such a file, or skips the test on the simulated kernels, which know
// none.
func registerOnce(t *testing.T, p *epore.Poll, fd int, in epore.Interest) {
	t.Helper()
	if p.Backend() == "kqueue" {
		t.Skip("the simulated kernels have no such file")
	}
	require.NoError(t, p.Registry().Register(epore.FD(fd), 1, in))
}

const onceRule = "R16: what a file reports only once reaches the loop, whatever else polls the queue"

// contract: R16
func TestReportedOnce_WhileThePollWaits(t *testing.T) {
	eachStrategy(t, onceRule, func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(8)
		for _, mode := range []epore.Interest{0, epore.OneShot, edge(p)} {
			fd, change := mounts(t)
			registerOnce(t, p, fd, epore.Priority|mode)
			_ = ready(t, p, events) // Register may give one event in any case
			for range 10 {
				if mode == epore.OneShot {
					require.NoError(t, p.Registry().Reregister(epore.FD(fd), 1, epore.Priority|mode))
				}
				require.NoError(t, p.Poll(events, 3*time.Millisecond))
				if mode == epore.OneShot && events.Len() > 0 {
					require.NoError(t, p.Registry().Reregister(epore.FD(fd), 1, epore.Priority|mode))
				}
				polled := asleep(p, func() error { return p.Poll(events, fixture.Soon) })
				change()
				require.NoError(t, <-polled)
				require.True(t, len(all(events)) == 1 && all(events)[0].Priority(), "%v: a mount was not reported", mode)
			}
			require.NoError(t, p.Registry().Deregister(epore.FD(fd)))
		}
	})
}

// contract: R16
func TestReportedOnce_BeforeRegister(t *testing.T) {
	eachStrategy(t, onceRule, func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(8)
		for range 10 {
			fd, change := mounts(t)
			change()
			registerOnce(t, p, fd, epore.Priority|epore.OneShot)
			require.Equal(t, epore.Token(1), next(t, p, events)[0].Token, "changed between open and Register")
			require.NoError(t, p.Poll(events, 3*time.Millisecond))
			require.Empty(t, all(events), "one-shot")
			change()
			require.NoError(t, p.Registry().Reregister(epore.FD(fd), 2, epore.Priority|epore.OneShot))
			require.Equal(t, epore.Token(2), next(t, p, events)[0].Token, "changed before Reregister")
			require.NoError(t, p.Registry().Deregister(epore.FD(fd)))
		}
	})
}

// A Poll that is parked already, and so is watched by the runtime, gets such a file.
// contract: R16
func TestReportedOnce_RegisteredWhileThePollWaits(t *testing.T) {
	eachStrategy(t, onceRule, func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(8)
		for range 10 {
			fd, change := mounts(t)
			change()
			polled := asleep(p, func() error { return p.Poll(events, fixture.Soon) })
			registerOnce(t, p, fd, epore.Priority)
			require.NoError(t, <-polled)
			require.Equal(t, epore.Token(1), all(events)[0].Token)
			polled = asleep(p, func() error { return p.Poll(events, fixture.Soon) })
			change()
			require.NoError(t, <-polled)
			require.Equal(t, epore.Token(1), all(events)[0].Token)
			require.NoError(t, p.Registry().Deregister(epore.FD(fd)))
		}
	})
}

// The Poll parks again when the last such file is gone.
// contract: R16
func TestReportedOnce_ParksAgain(t *testing.T) {
	guard(t, "P11, R16: only a Poll with such a file holds a thread")
	p := open(t)
	if p.Strategy() != epore.Park {
		t.Skip("this queue cannot park")
	}
	events := epore.NewEvents(8)
	fd, _ := mounts(t)
	registerOnce(t, p, fd, epore.Priority)
	_ = next(t, p, events)
	require.NoError(t, p.Poll(events, 5*time.Millisecond))
	require.False(t, p.Attached(), "the runtime would poll it, too")
	require.NoError(t, p.Registry().Deregister(epore.FD(fd)))
	require.NoError(t, p.Poll(events, 5*time.Millisecond))
	require.True(t, p.Attached())
}

// A perf event takes away what it reports, too.
// contract: R16
func TestReportedOnce_PerfEvent(t *testing.T) {
	eachStrategy(t, onceRule, func(t *testing.T, p *epore.Poll) {
		attr := unix.PerfEventAttr{
			Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: 128,
			Sample: 10e6, Sample_type: unix.PERF_SAMPLE_TIME, Wakeup: 1,
		}
		fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			t.Skipf("perf events are not allowed here: %v", err)
		}
		defer unix.Close(fd)
		ring, err := unix.Mmap(fd, 0, 5*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		require.NoError(t, err)
		defer unix.Munmap(ring)
		registerOnce(t, p, fd, epore.Readable)
		events := epore.NewEvents(4)
		for range 20 { // a sample each 10 ms of processor time
			require.Equal(t, epore.Token(1), next(t, p, events)[0].Token)
		}
		require.NoError(t, p.Registry().Deregister(epore.FD(fd)))
	})
}

// registering is an epoll that lets a source be registered while the Poll looks for events.
type registering struct {
	*epoll.Epoll
	looks    int
	register func()
}

func (r *registering) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	if r.looks++; r.looks == 2 { // the first is before the Poll parks, the second within
		r.register()
	}
	return r.Epoll.Wait(dst, timeout)
}

// The look of a goroutine that is about to park delivers the event. Leaving the runtime's
// poller must then wait until the look is over, or it would wait for itself.
// contract: R16
func TestReportedOnce_RegisteredDuringTheLook(t *testing.T) {
	guard(t, onceRule)
	fd, change := mounts(t)
	b := &registering{Epoll: epoll.New()}
	p, err := epore.NewWith(b)
	require.NoError(t, err)
	defer p.Close()
	b.register = func() { require.NoError(t, p.Registry().Register(epore.FD(fd), 1, epore.Priority)) }
	events := epore.NewEvents(4)
	require.Equal(t, epore.Token(1), next(t, p, events)[0].Token)
	require.Greater(t, b.looks, 1)
	require.False(t, p.Attached())
	polled := asleep(p, func() error { return p.Poll(events, fixture.Soon) })
	change()
	require.NoError(t, <-polled)
	require.Len(t, all(events), 1)
}

// alwaysReady returns a file of a kind that the queue does not know, so that it is inspected. It
// is always readable.
func alwaysReady(t *testing.T, p *epore.Poll) epore.Source {
	t.Helper()
	if p.Backend() == "kqueue" {
		t.Skip("the simulated kernels do not watch devices")
	}
	f, err := os.Open("/dev/random")
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return epore.FD(f.Fd())
}

// The inspection of a one-shot source arms it in the kernel again, and finds it ready. If the
// loop has had its event, there is no other.
// contract: M3, R16
func TestReportedOnce_OneShotGivesOneEvent(t *testing.T) {
	const in = epore.Readable | epore.OneShot
	eachStrategy(t, "M3: a one-shot registration gives one event, of whatever kind its source is", func(t *testing.T, p *epore.Poll) {
		s, events := alwaysReady(t, p), epore.NewEvents(4)
		more := func() (n int) {
			for range 3 {
				require.NoError(t, p.Poll(events, 3*time.Millisecond)) // long enough to inspect
				n += len(all(events))
			}
			return n
		}
		register := func() error { return p.Registry().Register(s, 1, in) }
		reregister := func() error { return p.Registry().Reregister(s, 2, in) }
		for range 20 {
			require.NoError(t, register())
			require.Equal(t, 1, more(), "registered")
			require.NoError(t, reregister())
			require.Equal(t, 1, more(), "registered again")
			require.NoError(t, p.Registry().Deregister(s))

			for _, change := range []func() error{register, reregister} {
				polled := asleep(p, func() error { return p.Poll(events, fixture.Soon) })
				require.NoError(t, change())
				require.NoError(t, <-polled)
				require.Equal(t, 1, len(all(events))+more(), "while the Poll waited")
			}
			require.NoError(t, p.Registry().Deregister(s))

			require.NoError(t, register())
			require.NoError(t, reregister())
			require.NoError(t, p.Poll(events, 0))
			require.Equal(t, 1, len(all(events))+more(), "registered again before it was inspected")
			require.NoError(t, p.Registry().Deregister(s))
		}
	})
}

// What an inspection finds and what the queue reports are one event.
// contract: P6, R16
func TestReportedOnce_OnceInABatch(t *testing.T) {
	eachStrategy(t, "P6: the same bit of one registration never comes twice in a batch", func(t *testing.T, p *epore.Poll) {
		s, events := alwaysReady(t, p), epore.NewEvents(4)
		for _, mode := range []epore.Interest{0, edge(p)} {
			require.NoError(t, p.Registry().Register(s, 1, epore.Readable|mode))
			for range 200 { // a Poll that does not sleep inspects at times
				require.NoError(t, p.Poll(events, 0))
				require.LessOrEqual(t, len(all(events)), 1)
				require.NoError(t, p.Registry().Reregister(s, 1, epore.Readable|mode))
				require.NoError(t, p.Poll(events, 0))
				require.Len(t, all(events), 1)
			}
			require.NoError(t, p.Registry().Deregister(s))
		}
	})
}

// inspecting is a queue whose sources report a thing once.
type inspecting struct {
	*backendtest.Fake
	report backend.Readiness
}

func (q *inspecting) Inspect(_ backend.Handle, _ backend.Key, in backend.Interest) (once bool, ready backend.Readiness) {
	ready, q.report = q.report&backend.Readiness(in), 0
	return true, ready
}

// Reregister asks the source before it fails. The report then belongs to the old registration.
// contract: R13, R16
func TestReportedOnce_ReregisterFails(t *testing.T) {
	guard(t, onceRule)
	for _, mode := range []epore.Interest{0, epore.OneShot} {
		q := &inspecting{Fake: backendtest.NewFake()}
		p, err := epore.NewWith(q)
		require.NoError(t, err)
		events := epore.NewEvents(4)
		require.NoError(t, p.Registry().Register(five, 1, epore.Priority|mode))
		require.Len(t, next(t, p, events), 1, "the one that Register gives")
		if mode != 0 {
			require.NoError(t, p.Registry().Reregister(five, 1, epore.Priority|mode))
		}
		for i := range 2 {
			q.report = backend.ReadyPriority
			q.FailNext("Modify", errSorry)
			require.ErrorIs(t, p.Registry().Reregister(five, 2, epore.Readable), errSorry)
			require.NoError(t, p.Poll(events, 0))
			if i == 0 || mode == 0 {
				require.Equal(t, []epore.Event{{Token: 1, Ready: epore.ReadyPriority}}, all(events))
			} else {
				require.Empty(t, all(events), "one-shot: it has had its event")
			}
		}
		require.NoError(t, p.Close())
	}
}

// The slot of a source that was deregistered before it was inspected has another registration,
// which is not inspected: an inspection may give an event.
// contract: S5, S7
func TestReportedOnce_SlotOfAnotherRegistration(t *testing.T) {
	guard(t, "S5: a Process gives an event when the process has ended")
	source := epore.FD(1 << 20) // no number that the pidfd of the Process may have
	for name, occupy := range map[string]func(t *testing.T, p *epore.Poll){
		"a Process": func(t *testing.T, p *epore.Poll) {
			_, child := fixture.NewChild(t)
			watch, err := epore.NewProcess(p.Registry(), 7, child)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, watch.Close()) })
		},
		"a Hook": func(t *testing.T, p *epore.Poll) {
			_, err := epore.NewHook(p.Registry(), epore.FD(1<<20+1), func() {}, nil)
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := epore.NewWith(&inspecting{Fake: backendtest.NewFake()})
			require.NoError(t, err)
			defer p.Close()
			require.NoError(t, p.Registry().Register(source, 1, epore.Readable))
			require.NoError(t, p.Registry().Deregister(source))
			occupy(t, p)
			events := epore.NewEvents(4)
			require.NoError(t, p.Poll(events, time.Millisecond))
			require.Empty(t, all(events))
			require.NoError(t, p.Registry().Register(source, 1, epore.Readable))
			require.Len(t, next(t, p, events), 1, "it is of an unknown kind")
		})
	}
}
