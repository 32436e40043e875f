package pollfd

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// A file that says once that something changed, while there is no room to report it.
func TestWhatIsSaidOnce(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change the mounts")
	}
	p := opened(t)
	a, b := fixture.Pair(t)
	b.Write("x")
	require.NoError(t, p.Add(a.Handle(), 1, backend.Readable))
	// Not os.Open: Go's runtime would watch it, and be the first who asks.
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
