package pollfd

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// A file reports only once that something changed, while there is no room for its event.
func TestWait_UrgentReportedOnce(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change the mounts")
	}
	p := opened(t)
	a, b := fixture.Pair(t)
	b.Write("x")
	require.NoError(t, p.Add(a.Handle(), 1, backend.Readable))
	// Not os.Open: the Go runtime would watch the file, and get the report.
	mounts, err := unix.Open("/proc/self/mounts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(mounts)
	require.NoError(t, p.Add(backend.Handle(mounts), 2, backend.Priority))
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("the mounts cannot be changed here: %v", err)
	}
	defer func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
	seen := make(map[backend.Key]int)
	dst := make([]backend.Event, 1)
	for range 6 {
		n, err := p.Wait(dst, -1)
		require.NoError(t, err)
		for _, ev := range dst[:n] {
			seen[ev.Key]++
		}
	}
	require.Equal(t, 1, seen[2])
	require.Equal(t, 5, seen[1])
}

// A number that is no descriptor's is refused before the file with its lower half is asked: that
// would take away what the file reports.
func TestAdd_NumberOutOfRange(t *testing.T) {
	if os.Geteuid() != 0 || strconv.IntSize == 32 {
		t.Skip("only root can change the mounts, and 32 bits hold no such number")
	}
	p := opened(t)
	mounts, err := unix.Open("/proc/self/mounts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(mounts)
	require.NoError(t, p.Add(backend.Handle(mounts), 1, backend.Priority))
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("the mounts cannot be changed here: %v", err)
	}
	defer func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
	beyond := backend.Handle(uint64(mounts) | 1<<32)
	require.ErrorIs(t, p.Add(beyond, 2, backend.Priority), unix.EBADF)
	require.Len(t, wait(t, p, 0), 1)
}

// The number of a pipe was closed and got the same pipe by dup2: it can be registered,
// although the record has the pipe for as long as it lives.
func TestAdd_PipeBackAtItsNumber(t *testing.T) {
	p := opened(t)
	r, w := fixture.Pipe(t)
	kept := r.Dup()
	require.NoError(t, p.Add(r.Handle(), 1, backend.Readable))
	number := r.FD
	r.Close()
	require.Empty(t, wait(t, p, 0))
	back := kept.MoveTo(number)
	require.NoError(t, p.Add(back.Handle(), 2, backend.Readable))
	require.ErrorIs(t, p.Add(back.Handle(), 3, backend.Readable), unix.EEXIST)
	w.Write("x")
	require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, wait(t, p, 0))
}

// A descriptor that is open and that poll(2) does not take is ErrNotPollable: on Linux
// one that is for paths only.
func TestAdd_OpenButNotPollable(t *testing.T) {
	fd, err := unix.Open("/dev/null", unix.O_PATH|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	p := &Pollfd{system: posixSystem}
	require.NoError(t, p.Open())
	defer p.Close()
	require.ErrorIs(t, p.Add(backend.Handle(fd), 1, backend.Readable), backend.ErrNotPollable)
	require.Equal(t, time.Millisecond, p.Capabilities().Resolution)
}

// The timeout has more seconds than 32 bits hold.
func TestWait_LongTimeout(t *testing.T) {
	p := opened(t)
	require.NoError(t, p.Wake())
	require.Empty(t, wait(t, p, 3_000_000_000*time.Second))
}
