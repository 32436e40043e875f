//go:build unix

package kq_test

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/kqueue"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/kq"
)

// pollIn reports whether poll(2) finds fd readable within timeout milliseconds.
func pollIn(t *testing.T, fd, timeout int) bool {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, timeout)
		if err == unix.EINTR {
			continue
		}
		require.NoError(t, err)
		return n == 1
	}
}

// contract: S5
func TestOpenProcess_ReadableWhenEnded(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			child, p := fixture.NewChild(t)
			fd, err := kq.OpenProcessOn(kernel, p.Pid)
			require.NoError(t, err)
			defer kernel.Close(fd)
			require.False(t, pollIn(t, fd, 0))
			child.End()
			require.True(t, pollIn(t, fd, int(fixture.Soon.Milliseconds())))
			require.True(t, pollIn(t, fd, 0), "it does not stay readable")
		})
	}
}

// The descriptor is there for queues that cannot watch processes, or not this one again.
func TestOpenProcess_WatchedByQueue(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			q := kqueue.NewOn(kernel)
			require.NoError(t, q.Open())
			defer q.Close()
			child, p := fixture.NewChild(t)
			fd, err := kq.OpenProcessOn(kernel, p.Pid)
			require.NoError(t, err)
			defer kernel.Close(fd)
			require.NoError(t, q.Add(backend.Handle(fd), 1, backend.Readable|backend.OneShot))
			require.NoError(t, q.WatchProcess(p.Pid, 2), "two queues watch the same process")
			dst := make([]backend.Event, 4)
			n, err := q.Wait(dst, 0)
			require.NoError(t, err)
			require.Zero(t, n)
			child.End()
			for n < 2 {
				m, err := q.Wait(dst[n:], fixture.Soon)
				if err == unix.EINTR {
					continue
				}
				require.NoError(t, err)
				require.NotZero(t, m)
				n += m
			}
			require.ElementsMatch(t, []backend.Event{
				{Key: 1, Ready: backend.ReadyReadable}, {Key: 2, Ready: backend.ReadyReadable},
			}, dst[:n])
		})
	}
}

func TestOpenProcess_ReapedProcess(t *testing.T) {
	for name, kernel := range kernels() {
		t.Run(name, func(t *testing.T) {
			child, p := fixture.NewChild(t)
			child.End()
			child.Wait(p.Pid)
			limit := min(fixture.DescriptorLimit(t), 1024)
			before := fixture.OpenDescriptors(limit)
			for range 20 {
				_, err := kq.OpenProcessOn(kernel, p.Pid)
				require.ErrorIs(t, err, os.ErrProcessDone)
				require.ErrorIs(t, err, unix.ESRCH)
			}
			require.Less(t, fixture.OpenDescriptors(limit), before+20, "descriptors leak")
		})
	}
}

func TestOpenProcess_WithoutKqueue(t *testing.T) {
	if kq.Native() != nil {
		t.Skip("this system has kqueue")
	}
	_, err := kq.OpenProcess(1)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
