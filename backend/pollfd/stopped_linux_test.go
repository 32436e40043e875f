package pollfd_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/backend/iouring"
	"github.com/epore/epore/backend/pollfd"
)

// envStopped makes TestPoll_StoppedProcess the program that is stopped, and names its queue.
const envStopped = "EPORE_TEST_STOPPED"

const (
	stoppedTimeout = 600 * time.Millisecond
	stoppedFor     = 400 * time.Millisecond
	// stoppedLate is when a Poll is late by the time for which the process was stopped.
	stoppedLate     = stoppedTimeout + stoppedFor/2
	stoppedAttempts = 8
)

// A timeout includes the time for which the process was stopped. A Poll that restarts its
// timeout is late in every attempt; on a busy machine, others are late in some.
// contract: P4
func TestPoll_StoppedProcess(t *testing.T) {
	queues := map[string]func() backend.Backend{
		"epoll":   func() backend.Backend { return epoll.New() },
		"iouring": func() backend.Backend { return iouring.New() },
		"pollfd":  func() backend.Backend { return pollfd.New() },
	}
	if name := os.Getenv(envStopped); name != "" {
		runtime.LockOSThread() // for io_uring
		p, err := epore.NewWith(queues[name](), epore.WithStrategy(epore.Block))
		if err != nil {
			fmt.Println("no queue:", err)
			return
		}
		events := epore.NewEvents(1)
		fmt.Println("waiting")
		begin := time.Now()
		require.NoError(t, p.Poll(events, stoppedTimeout))
		fmt.Println(time.Since(begin).Nanoseconds())
		return
	}
	for name := range queues {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var took []time.Duration
			for range stoppedAttempts {
				d, reason := pollStopped(t, name)
				if reason != "" {
					t.Skip(reason)
				}
				require.GreaterOrEqual(t, d, stoppedTimeout, "early")
				if took = append(took, d); d < stoppedLate {
					return
				}
			}
			t.Fatalf("a timeout of %v took %v", stoppedTimeout, took)
		})
	}
}

// pollStopped stops a process while it is in Poll, and returns how long the Poll took.
func pollStopped(t *testing.T, queue string) (took time.Duration, skip string) {
	child := exec.Command(os.Args[0], "-test.run=^TestPoll_StoppedProcess$")
	child.Env = append(os.Environ(), envStopped+"="+queue)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	defer func() { _ = child.Wait() }()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	if line := lines.Text(); line != "waiting" {
		return 0, line
	}
	time.Sleep(50 * time.Millisecond) // now it sleeps, or this attempt proves nothing
	require.NoError(t, child.Process.Signal(unix.SIGSTOP))
	time.Sleep(stoppedFor)
	require.NoError(t, child.Process.Signal(unix.SIGCONT))
	require.True(t, lines.Scan())
	_, err = fmt.Sscan(lines.Text(), &took)
	require.NoError(t, err, lines.Text())
	return took, ""
}
