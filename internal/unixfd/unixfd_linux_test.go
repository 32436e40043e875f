package unixfd_test

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/backend/iouring"
	"github.com/epore/epore/backend/kqueue"
	"github.com/epore/epore/backend/pollfd"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/kqsim"
	"github.com/epore/epore/internal/unixfd"
)

// envInterrupted makes TestClose_Interrupted the program in which close(2) fails.
const envInterrupted = "EPORE_TEST_CLOSE_INTERRUPTED"

// Whatever closes a descriptor in this module succeeds in a program in which every close(2)
// fails with EINTR.
// contract: P9
func TestClose_Interrupted(t *testing.T) {
	if os.Getenv(envInterrupted) == "" {
		self := exec.Command(os.Args[0], "-test.run=^TestClose_Interrupted$", "-test.v")
		self.Env = append(os.Environ(), envInterrupted+"=1")
		out, err := self.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	var pipe [2]int
	require.NoError(t, unix.Pipe(pipe[:]))
	polls := make(map[string]*epore.Poll)
	for name, b := range map[string]backend.Backend{
		"epoll":            epoll.New(),
		"io_uring":         iouring.New(),
		"pollfd":           pollfd.New(),
		"kqueue, freebsd":  kqueue.NewOn(kqsim.New(kqsim.FreeBSD)),
		"kqueue by a pipe": kqueue.NewOn(kqsim.New(kqsim.NetBSD)),
	} {
		p, err := epore.NewWith(b)
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		// For files that are not sockets, pollfd and io_uring open another descriptor.
		require.NoError(t, p.Registry().Register(epore.FD(pipe[0]), 1, epore.Readable))
		require.NoError(t, p.Poll(epore.NewEvents(1), 5*time.Millisecond)) // it may park
		polls[name] = p
	}
	parent, err := os.FindProcess(os.Getppid())
	require.NoError(t, err)
	process, err := epore.NewProcess(polls["epoll"].Registry(), 2, parent)
	require.NoError(t, err)
	if err := fixture.Deny(unix.SYS_CLOSE, unix.EINTR); err != nil {
		t.Skipf("this system does not let close(2) fail: %v", err)
	}
	require.Equal(t, unix.EINTR, unix.Close(-1), "close(2) does not fail as it should")
	assert.NoError(t, unixfd.Close(-1))
	assert.NoError(t, process.Close())
	for name, p := range polls {
		assert.NoError(t, p.Close(), "%s", name)
	}
}
