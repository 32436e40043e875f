//go:build unix || windows

package epore_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

// firstOf waits for a source, at most for limit. It is the loop to test.
func firstOf(p *epore.Poll, s epore.Source, limit time.Duration) (ready bool, err error) {
	if err := p.Registry().Register(s, 1, epore.Readable); err != nil {
		return false, err
	}
	timer, err := epore.NewTimer(p.Registry(), 2)
	if err != nil {
		return false, err
	}
	if err := timer.Reset(limit); err != nil {
		return false, err
	}
	events := epore.NewEvents(8)
	err = p.Poll(events, epore.Forever)
	for ev := range events.All() {
		ready = ready || ev.Token == 1
	}
	return ready, err
}

// The minutes of this test take no time, and each instant is exact.
func TestVirtualTime_LoopOfAProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := backendtest.NewFake()
		p, err := epore.NewWith(queue)
		require.NoError(t, err)
		defer p.Close()
		const source = 7 // a Fake takes any number

		begin := time.Now()
		ready, err := firstOf(p, epore.FD(source), time.Minute)
		require.NoError(t, err)
		require.False(t, ready)
		require.Equal(t, time.Minute, time.Since(begin))

		require.NoError(t, p.Registry().Deregister(epore.FD(source)))
		time.AfterFunc(59*time.Second, func() { queue.SetReady(source, backend.ReadyReadable) })
		ready, err = firstOf(p, epore.FD(source), time.Minute)
		require.NoError(t, err)
		require.True(t, ready)
		require.Equal(t, time.Minute+59*time.Second, time.Since(begin))
	})
}
