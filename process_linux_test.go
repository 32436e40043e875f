package epore_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
)

var refusals = map[string]unix.Errno{"ENOSYS": unix.ENOSYS, "EPERM": unix.EPERM}

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
func TestProcess_PidfdIsRefused(t *testing.T) {
	if os.Getenv(envNoPidfd) == "" {
		t.Skip("pidfd_open is not refused")
	}
	p := open(t)
	_, err := epore.NewProcess(p.Registry(), 1, find(t, os.Getppid()))
	require.ErrorContains(t, err, "the kernel refuses pidfd_open")
	require.ErrorIs(t, err, refusals[os.Getenv(envNoPidfd)])
}
