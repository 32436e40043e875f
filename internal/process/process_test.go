//go:build unix

package process_test

import (
	"errors"
	"math"
	"os"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/process"
)

// skipWithout skips a test if err says that the system lacks the way.
func skipWithout(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
}

// isReadable reports whether fd is readable within timeout milliseconds.
func isReadable(t *testing.T, fd, timeout int) bool {
	t.Helper()
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, timeout)
		if err != unix.EINTR {
			require.NoError(t, err)
			return n > 0
		}
	}
}

func TestOpen_IsReadableWhenTheProcessHasEnded(t *testing.T) {
	defer backendtest.Watchdog(t, "the descriptor of a process is readable once it has ended")()
	child, q := fixture.NewChild(t)
	fd, err := process.Open(q.Pid)
	skipWithout(t, err)
	require.False(t, isReadable(t, fd, 5))
	child.End()
	require.True(t, isReadable(t, fd, -1))
	require.True(t, process.Exists(q.Pid), "it can still be waited for")
	require.NoError(t, process.Close(fd))

	child.Wait(q.Pid)
	_, err = process.Open(q.Pid)
	require.ErrorIs(t, err, os.ErrProcessDone)
	_, err = process.Open(math.MaxInt32)
	require.ErrorIs(t, err, os.ErrProcessDone)
}

func TestWatchChild_NotifiesOnce(t *testing.T) {
	defer backendtest.Watchdog(t, "the end of a child is reported once")()
	child, q := fixture.NewChild(t)
	ended := make(chan struct{}, 10)
	stop, err := process.WatchChild(q.Pid, func() { ended <- struct{}{} })
	skipWithout(t, err)
	other, o := fixture.NewChild(t)
	var others atomic.Int32
	stopOther, err := process.WatchChild(o.Pid, func() { others.Add(1) })
	require.NoError(t, err)

	child.End()
	<-ended
	again := make(chan struct{}, 10)
	stopAgain, err := process.WatchChild(q.Pid, func() { again <- struct{}{} })
	require.NoError(t, err)
	<-again
	stop()
	stopAgain()
	require.Empty(t, ended)
	require.Empty(t, again)

	stopOther()
	other.End()
	require.Zero(t, others.Load(), "nothing is reported after stop")
}

func TestWatchChild_RefusesOthers(t *testing.T) {
	_, err := process.WatchChild(os.Getppid(), func() { t.Error("the parent is no child") })
	require.ErrorIs(t, err, errors.ErrUnsupported)
	if _, err = process.WatchChild(math.MaxInt32, func() {}); !errors.Is(err, errors.ErrUnsupported) {
		require.ErrorIs(t, err, os.ErrProcessDone)
	}
}

func TestWaitedFor(t *testing.T) {
	child, q := fixture.NewChild(t)
	require.False(t, process.WaitedFor(q))
	child.End()
	require.False(t, process.WaitedFor(q), "ended, and not waited for")
	child.Wait(q.Pid)
	require.True(t, process.WaitedFor(q))
}
