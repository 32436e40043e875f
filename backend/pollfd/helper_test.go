//go:build unix

package pollfd

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// opened returns an open queue that is closed when the test ends.
func opened(t *testing.T) *Pollfd {
	p := New()
	require.NoError(t, p.Open())
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// wait calls Wait until it is not interrupted. The Go runtime interrupts threads by
// signals; the core handles that in the same way.
func wait(t *testing.T, p *Pollfd, timeout time.Duration) []backend.Event {
	t.Helper()
	dst := make([]backend.Event, 8)
	begin := time.Now()
	for left := timeout; ; left = max(timeout-time.Since(begin), 0) {
		if timeout < 0 {
			left = timeout
		}
		n, err := p.Wait(dst, left)
		if err == unix.EINTR {
			continue
		}
		require.NoError(t, err)
		return dst[:n]
	}
}
