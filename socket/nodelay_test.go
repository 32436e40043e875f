//go:build unix || windows

package socket

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/internal/fixture"
)

// A kernel in which accepted connections do not inherit TCP_NODELAY looks like one whose
// listener lacks it.
// contract: N9
func TestAccept_NoDelayIsNotInherited(t *testing.T) {
	before := acceptedNoDelay.state.Load()
	acceptedNoDelay.state.Store(notAsked)
	defer acceptedNoDelay.state.Store(before)
	l, err := Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, setNoDelay(l.descriptor().Handle(), false))
	for range 2 {
		c, err := Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		fixture.AwaitReadable(t, int(l.descriptor().Handle()))
		a, err := l.Accept()
		require.NoError(t, err)
		on, err := getNoDelay(a.descriptor().Handle())
		require.NoError(t, err)
		require.True(t, on, "N9: TCP begins with no-delay")
		require.NoError(t, a.Close())
		require.NoError(t, c.Close())
	}
	require.EqualValues(t, notInherited, acceptedNoDelay.state.Load())
}
