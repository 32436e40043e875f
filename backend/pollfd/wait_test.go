//go:build unix

package pollfd

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// A pipe has room for 65,536 bytes or less.
// contract: E4
func TestWake_FullPipe(t *testing.T) {
	p := opened(t)
	for range 100_000 {
		require.NoError(t, p.Wake())
	}
	a, b := fixture.Pair(t)
	b.Write("x")
	require.NoError(t, p.Add(a.Handle(), 1, backend.Readable|backend.OneShot))
	require.Len(t, wait(t, p, -1), 1)
	begin := time.Now()
	require.Empty(t, wait(t, p, 10*time.Millisecond), "the wakes are over")
	require.GreaterOrEqual(t, time.Since(begin), 10*time.Millisecond)
}

// poll(2) takes as many elements as a process may have descriptors. If that limit is
// lowered below what is registered, Wait returns an error that says so.
// contract: E4
func TestWait_DescriptorLimitLowered(t *testing.T) {
	p := opened(t)
	ends, closeAll := fixture.ManyPairs(t, 40)
	defer closeAll()
	for i, e := range ends {
		require.NoError(t, p.Add(backend.Handle(e[0]), backend.Key(i+1), backend.Readable))
	}
	var was unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	low := was
	low.Cur = 20
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	_, err := p.Wait(make([]backend.Event, 1), 0)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was))
	if err == nil {
		t.Skip("this system's poll(2) does not mind")
	}
	require.ErrorIs(t, err, unix.EINVAL)
	require.ErrorContains(t, err, "RLIMIT_NOFILE")
	_, err = unix.Write(ends[7][1], []byte("x"))
	require.NoError(t, err)
	require.Equal(t, []backend.Event{{Key: 8, Ready: backend.ReadyReadable}}, wait(t, p, 0), "and nothing is lost")
}
