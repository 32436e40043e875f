//go:build unix

package epore_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

// A child that is stopped and goes on sends SIGCHLD, too.
// contract: S5
func TestProcess_StoppedAndContinued(t *testing.T) {
	eachWay(t, "S5: the end, and nothing else", func(t *testing.T, p *epore.Poll) {
		child, q := fixture.NewChild(t)
		newProcess(t, p, 7, q)
		events := epore.NewEvents(4)
		for _, sig := range []os.Signal{unix.SIGSTOP, unix.SIGCONT} {
			require.NoError(t, q.Signal(sig))
			if sig == unix.SIGSTOP {
				fixture.AwaitStopped(t, q.Pid)
			}
			require.NoError(t, p.Poll(events, 5*time.Millisecond))
			require.Empty(t, all(events))
		}
		child.Release()
		require.Equal(t, []epore.Event{{Token: 7, Ready: 1}}, next(t, p, events))
	})
}
