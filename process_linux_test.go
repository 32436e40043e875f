package epore_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
)

var refusals = map[string]unix.Errno{"ENOSYS": unix.ENOSYS, "EPERM": unix.EPERM, "EACCES": unix.EACCES, "EINVAL": unix.EINVAL}

// Before package os looks whether there are pidfds.
func init() {
	if errno, ok := refusals[os.Getenv(envNoPidfd)]; ok {
		if err := fixture.Deny(unix.SYS_PIDFD_OPEN, errno); err != nil {
			fmt.Println("pidfd_open cannot be refused here:", err)
			os.Exit(0)
		}
	}
}

// Old kernels lack pidfd_open, and containers may forbid it. The tests of processes run
// again in a program to which the kernel really refuses it.
// contract: S5
func TestProcess_WithoutPidfd(t *testing.T) {
	if os.Getenv(queuetest.Env) != "" || os.Getenv(envNoPidfd) != "" {
		t.Skip("on one queue, once")
	}
	for name := range refusals {
		t.Run(name, func(t *testing.T) {
			if _, again := queuesTested.LoadOrStore(t.Name(), true); again {
				t.Skip("tested already")
			}
			self := exec.Command(os.Args[0], "-test.v", "-test.timeout=5m",
				"-test.run=^TestProcess_", "-test.skip=_(WithoutPidfd|OutOfDescriptors|WatchedByQueue|NoWay)$|/by_(descriptor|SIGCHLD)$")
			self.Env = append(os.Environ(), envNoPidfd+"="+name)
			out, err := self.CombinedOutput()
			require.NoError(t, err, "%s", out)
			if testing.Verbose() {
				t.Logf("%s", out)
			}
		})
	}
}

// TestProcess_PidfdIsRefused checks, for TestProcess_WithoutPidfd, that it is refused.
// contract: S5
func TestProcess_PidfdIsRefused(t *testing.T) {
	if os.Getenv(envNoPidfd) == "" {
		t.Skip("pidfd_open is not refused")
	}
	p := open(t)
	_, err := epore.NewProcess(p.Registry(), 1, find(t, os.Getppid()))
	require.ErrorContains(t, err, "the kernel refuses pidfd_open")
	require.ErrorIs(t, err, refusals[os.Getenv(envNoPidfd)])
}

// Linux numbers threads like processes. A thread's ID is no process, and the error must say
// so.
// contract: S5
func TestProcess_ThreadID(t *testing.T) {
	eachWay(t, processRule, func(t *testing.T, p *epore.Poll) {
		if p.Backend() == "kqueue" {
			t.Skip("a kernel with kqueue numbers threads apart from processes")
		}
		ids, end := make(chan int), make(chan struct{})
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == os.Getpid() { // the first thread has the ID of the process
				go func() {
					runtime.LockOSThread()
					ids <- unix.Gettid()
					<-end
				}()
			} else {
				ids <- unix.Gettid()
			}
			<-end
		}()
		defer close(end)
		_, err := epore.NewProcess(p.Registry(), 1, find(t, <-ids))
		require.ErrorIs(t, err, fs.ErrInvalid)
		require.ErrorContains(t, err, "the ID of a thread")
		require.NotErrorIs(t, err, fs.ErrNotExist)
		require.NotContains(t, err.Error(), "Register")
		require.Empty(t, tokens(t, p))
	})
}
