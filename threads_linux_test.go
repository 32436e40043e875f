package epore_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
)

// contract: P11
func TestPark_HoldsNoThread(t *testing.T) {
	guard(t, "P11: 1,000 waiting Polls need no more than a handful of threads")
	const wanted = 1000
	n := min(wanted, (fixture.DescriptorLimit(t)-64)/4)
	p := open(t)
	if p.Strategy() == epore.Block {
		t.Skipf("%s is no descriptor that could be parked on", p.Backend())
	}
	before, _ := threads(t)
	all, waiting := threadsOf(t, n, epore.Park)
	t.Logf("reached %d waiting Polls of %d: %d threads, %d before", n, wanted, all, before)
	require.LessOrEqual(t, all, before+16)
	require.LessOrEqual(t, waiting, 1, "the runtime's own")

	few := min(n, 40)
	_, waiting = threadsOf(t, few, epore.Block)
	require.GreaterOrEqual(t, waiting, few, "blocked they hold one each, or this test would see nothing")
}

// threadsOf returns the number of threads while n Polls wait, and how many of them wait in a
// queue.
func threadsOf(t *testing.T, n int, s epore.Strategy) (all, waiting int) {
	var polls []*epore.Poll
	var loops sync.WaitGroup
	for range n {
		p, err := queuetest.OpenBare(epore.WithStrategy(s))
		skipWithout(t, err)
		polls = append(polls, p)
		loops.Go(func() {
			if s == epore.Block {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
			}
			events := epore.NewEvents(1)
			for p.Poll(events, forever) == nil {
			}
		})
	}
	for _, p := range polls {
		p.AwaitSleep(nil)
	}
	// Those that block have announced it: wait until they do.
	all, waiting = threads(t)
	for s == epore.Block && waiting < n {
		all, waiting = threads(t)
	}
	for _, p := range polls {
		require.NoError(t, p.Close())
	}
	loops.Wait()
	return all, waiting
}

// threads counts the threads of this process, and those that are in a system
// call that waits for events.
func threads(t *testing.T) (all, waiting int) {
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	for _, task := range tasks {
		call, err := os.ReadFile(filepath.Join("/proc/self/task", task.Name(), "syscall"))
		if os.IsNotExist(err) || os.IsPermission(err) {
			if _, again := os.Stat("/proc/self/syscall"); again != nil {
				t.Skip("this kernel does not say which system call a thread is in")
			}
			continue // the thread has ended meanwhile
		}
		all++
		number, _, _ := strings.Cut(string(call), " ")
		switch n, _ := strconv.Atoi(number); n {
		case unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_IO_URING_ENTER:
			waiting++
		}
	}
	return all, waiting
}
