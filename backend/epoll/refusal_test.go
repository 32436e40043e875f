//go:build linux

package epoll

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// envRefuse is the errno with which a process that TestWait_Pwait2RefusedLater starts has
// epoll_pwait2 refused.
const envRefuse = "EPORE_TEST_REFUSE_PWAIT2"

// A program may install a seccomp filter after it has opened its queue. If the filter
// refuses epoll_pwait2, waits go on with epoll_pwait.
// contract: P16
func TestWait_Pwait2RefusedLater(t *testing.T) {
	if n, err := strconv.Atoi(os.Getenv(envRefuse)); err == nil {
		pwait2RefusedLater(t, unix.Errno(n))
		return
	}
	for _, errno := range []unix.Errno{unix.ENOSYS, unix.EPERM, unix.EACCES} {
		t.Run(unix.ErrnoName(errno), func(t *testing.T) {
			self := exec.Command(os.Args[0], "-test.v", "-test.run=^TestWait_Pwait2RefusedLater$")
			self.Env = append(os.Environ(), fmt.Sprintf("%s=%d", envRefuse, errno))
			out, err := self.CombinedOutput()
			require.NoError(t, err, "%s", out)
			t.Logf("%s", out)
		})
	}
}

func pwait2RefusedLater(t *testing.T, errno unix.Errno) {
	e := opened(t)
	if !e.nanoseconds {
		t.Skip("this kernel has no epoll_pwait2")
	}
	if err := fixture.Deny(unix.SYS_EPOLL_PWAIT2, errno); err != nil {
		t.Skipf("a filter cannot be installed here: %v", err)
	}
	_, refused := e.pwait2(1, 0)
	require.Equal(t, errno, refused, "the filter is in force")
	events := make([]backend.Event, 1)
	begin := time.Now()
	n, err := e.Wait(events, 1500*time.Microsecond)
	require.NoError(t, err)
	require.Zero(t, n)
	require.GreaterOrEqual(t, time.Since(begin), 1500*time.Microsecond, "early")
	a, b := fixture.Pair(t)
	b.Write("x")
	require.NoError(t, e.Add(a.Handle(), 1, backend.Readable))
	n, err = e.Wait(events, -1)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}
