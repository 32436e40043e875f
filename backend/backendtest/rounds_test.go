package backendtest_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend/backendtest"
)

func TestRounds(t *testing.T) {
	for _, c := range []struct {
		name, long      string
		round           time.Duration
		shortest, after int // rounds
	}{
		{name: "short ones are counted, whatever they take", round: time.Minute, shortest: 5, after: 5},
		{name: "long ones", long: "1", round: time.Millisecond, shortest: 50, after: 50},
		{name: "long ones on a slow machine", long: "1", round: time.Second, shortest: 10, after: 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(backendtest.EnvLong, c.long)
			synctest.Test(t, func(t *testing.T) {
				var got []int
				for i := range backendtest.Rounds(t, 5, 50) {
					got = append(got, i)
					time.Sleep(c.round)
				}
				require.GreaterOrEqual(t, len(got), c.shortest)
				require.LessOrEqual(t, len(got), c.after, "the watchdog would have come")
				for i, n := range got {
					require.Equal(t, i, n)
				}
			})
		})
	}
	t.Setenv(backendtest.EnvLong, "1")
	rounds := backendtest.Rounds(t, 5, 50)
	for i := range rounds {
		if i == 3 {
			break
		}
	}
	require.Len(t, slices.Collect(rounds), 50, "each goroutine counts for itself")
}
