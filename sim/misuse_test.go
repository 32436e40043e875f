//go:build !plan9

package sim_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/sim"
)

// contract: V2
func TestLatency_OutOfRange(t *testing.T) {
	for name, f := range map[string]sim.Fault{
		"up to the longest": sim.Latency(0, math.MaxInt64),
		"the longest":       sim.Latency(math.MaxInt64, 0),
		"negative":          sim.Latency(math.MinInt64, math.MinInt64),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
				w.Faults(f, sim.Reordering(1))
				l, err := a.Listen("tcp", ":80")
				require.NoError(t, err)
				c, err := b.Dial("tcp", "a:80")
				require.NoError(t, err)
				w.Sleep(11 * 365 * 24 * time.Hour)
				_, err = l.Accept()
				require.NoError(t, err)
				require.NoError(t, c.ConnectError())
			})
		})
	}
}

// contract: V2
func TestFault_ProbabilityOutOfRange(t *testing.T) {
	for name, f := range map[string]func(float64) sim.Fault{
		"ShortReads": sim.ShortReads, "ShortWrites": sim.ShortWrites, "Resets": sim.Resets, "Loss": sim.Loss,
		"Duplicates": sim.Duplicates, "Reordering": sim.Reordering, "Spurious": sim.Spurious,
		"MissingHints": sim.MissingHints, "SplitEvents": sim.SplitEvents, "SmallBatches": sim.SmallBatches,
	} {
		for _, p := range []float64{0, 0.5, 1} {
			require.NotNil(t, f(p))
		}
		require.PanicsWithValue(t, "sim: "+name+"(5): a probability is from 0 to 1", func() { f(5) })
		require.Panics(t, func() { f(-0.1) })
		require.Panics(t, func() { f(math.NaN()) })
	}
}

// contract: V4
func TestWorld_HostOfAnotherWorld(t *testing.T) {
	var foreign *sim.Host
	inWorld(t, func(_ *testing.T, _ *sim.World, a, _ *sim.Host) { foreign = a })
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		require.Panics(t, func() { w.Partition(a, foreign) })
		require.Panics(t, func() { w.Link(foreign, a) })
		w.Partition(a, b) // the World works as before
		w.Heal()
	})
}

// contract: V4
func TestHost_UsedWhileDown(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		a.Crash()
		_, err := a.Listen("tcp", ":80")
		require.ErrorIs(t, err, sim.ErrCrashed)
		p, err := epore.NewWith(a.Backend())
		require.NoError(t, err)
		require.ErrorIs(t, p.Poll(epore.NewEvents(1), epore.Forever), sim.ErrCrashed)
		a.Restart()
		p, err = epore.NewWith(a.Backend())
		require.NoError(t, err)
		require.NoError(t, p.Poll(epore.NewEvents(1), time.Second))
	})
}
