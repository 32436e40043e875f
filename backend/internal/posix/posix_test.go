//go:build unix

package posix

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

func TestReadiness_AllBits(t *testing.T) {
	const (
		r, w, pri = backend.ReadyReadable, backend.ReadyWritable, backend.ReadyPriority
		e, rc, wc = backend.ReadyError, backend.ReadyReadClosed, backend.ReadyWriteClosed
	)
	for _, c := range []struct {
		bits uint32
		want backend.Readiness
	}{
		{0, 0},
		{unix.POLLIN, r},
		{unix.POLLOUT, w},
		{unix.POLLIN | unix.POLLOUT, r | w},
		{unix.POLLPRI, pri},
		{unix.POLLERR, e},
		{unix.POLLHUP, rc | wc},
		{unix.POLLOUT | unix.POLLERR, w | e},
		{unix.POLLERR | unix.POLLHUP | unix.POLLIN, r | e | rc | wc},
	} {
		require.Equal(t, c.want, Readiness(c.bits), "%#x", c.bits)
	}
	if rdhup != 0 {
		require.Equal(t, rc, Readiness(rdhup))
		require.Equal(t, r|rc, Readiness(unix.POLLIN|rdhup))
	}
}

func TestBits_Interests(t *testing.T) {
	require.EqualValues(t, unix.POLLIN|rdhup, Bits(backend.Readable))
	require.EqualValues(t, unix.POLLOUT, Bits(backend.Writable), "the end of reading is not asked for")
	require.EqualValues(t, unix.POLLPRI, Bits(backend.Priority))
	require.EqualValues(t, unix.POLLIN|unix.POLLOUT|unix.POLLPRI|rdhup,
		Bits(backend.Conditions|backend.OneShot|backend.Edge))
}

// contract: P2
func TestMilliseconds(t *testing.T) {
	for timeout, want := range map[int64]int32{
		-1: -1, -5e9: -1, 0: 0, 1: 1, 999_999: 1, 1_000_000: 1, 1_000_001: 2,
		1e15: 1e9, 1 << 62: 1<<31 - 1, 1<<63 - 1: 1<<31 - 1,
	} {
		require.Equal(t, want, Milliseconds(time.Duration(timeout)), "%d ns", timeout)
	}
}
