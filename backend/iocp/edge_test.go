//go:build windows

package iocp

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// Each condition has its own edge: Writable is not reported again because a read would
// have blocked.
func TestRearm_ConditionsAreSeparate(t *testing.T) {
	q := openQueue(t)
	a, b := fixture.TCPPair(t)
	require.NoError(t, q.Add(a.Handle(), 1, readable|writable|backend.Edge))
	require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyWritable}}, next(t, q))
	require.Empty(t, brief(t, q))
	b.Write("x")
	require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}, next(t, q))
	require.Empty(t, brief(t, q), "an edge is not repeated")
	b.Write("y")
	require.Empty(t, brief(t, q), "no read has reported would block")
	a.Drain()
	q.Rearm(a.Handle(), readable)
	require.Empty(t, brief(t, q))
	b.Write("z")
	require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}, next(t, q))
	// Another condition, while one is armed.
	a.Drain()
	q.Rearm(a.Handle(), readable)
	a.Fill()
	q.Rearm(a.Handle(), writable)
	require.Empty(t, now(t, q))
	for drained := false; !drained; { // the kernel may hold more to send than fits into the receive buffer
		b.Drain()
		for _, ev := range brief(t, q) {
			require.Equal(t, backend.ReadyWritable, ev.Ready)
			drained = true
		}
	}
	b.Write("x")
	require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}, next(t, q))

	// Rearm ignores other modes, and conditions that are not registered.
	q.Rearm(a.Handle(), backend.Priority)
	require.NoError(t, q.Modify(a.Handle(), 2, readable|backend.OneShot))
	require.Len(t, next(t, q), 1)
	q.Rearm(a.Handle(), readable)
	require.NoError(t, q.Modify(a.Handle(), 2, readable|backend.OneShot|backend.Edge))
	require.Len(t, next(t, q), 1)
	q.Rearm(a.Handle(), readable)
	require.Empty(t, brief(t, q))
}
