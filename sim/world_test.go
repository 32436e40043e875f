package sim_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/sim"
)

// run lets five loops wake each other at equal instants for a virtual second, and returns
// the trace.
func run(t *testing.T, seed uint64) (trace []string) {
	synctest.Test(t, func(t *testing.T) {
		const loops = 5
		w := sim.NewSeed(t, seed)
		var out strings.Builder
		w.Trace(&out)
		var polls [loops]*epore.Poll
		var timers [loops]*epore.Timer
		var wakers [loops]*epore.Waker
		for i := range loops {
			var err error
			polls[i], err = epore.NewWith(w.Host(string(rune('a' + i))).Backend())
			require.NoError(t, err)
			timers[i], err = epore.NewTimer(polls[i].Registry(), 1)
			require.NoError(t, err)
			wakers[i], err = epore.NewWaker(polls[i].Registry(), 2)
			require.NoError(t, err)
			require.NoError(t, timers[i].Every(50*time.Millisecond))
		}
		ended := make(chan error, loops)
		for i := range loops {
			go func() {
				events := epore.NewEvents(8)
				for {
					if err := polls[i].Poll(events, epore.Forever); err != nil {
						ended <- err
						return
					}
					for e := range events.All() {
						w.Note("loop %d: token %d", i, e.Token)
						if e.Token == 1 {
							_ = wakers[(i+1)%loops].Wake()
							_ = wakers[(i+2)%loops].Wake()
						}
					}
				}
			}()
		}
		time.Sleep(time.Second + time.Millisecond)
		w.Trace(nil)
		trace = strings.Split(out.String(), "\n")
		for _, p := range polls {
			require.NoError(t, p.Close())
			require.ErrorIs(t, <-ended, epore.ErrClosed)
		}
	})
	return trace
}

// contract: V2
func TestWorld_SeedRepeats(t *testing.T) {
	different := 0
	first := run(t, 0)
	require.Greater(t, len(first), 300)
	seeds := uint64(50)
	if os.Getenv("EPORE_LONG") != "" {
		seeds = 1000
	}
	for seed := range seeds {
		trace := run(t, seed)
		require.Equal(t, trace, run(t, seed), "seed %d", seed)
		if len(trace) != len(first) || trace[0] != first[0] || trace[4] != first[4] {
			different++
		}
	}
	require.Positive(t, different, "the seed decides the order")
}

// contract: V6
func TestWorld_EndsPolls(t *testing.T) {
	ended := make(chan error, 1)
	synctest.Test(t, func(t *testing.T) {
		w := sim.NewSeed(t, 1)
		p, err := epore.NewWith(w.Host("a").Backend())
		require.NoError(t, err)
		go func() { ended <- p.Poll(epore.NewEvents(1), epore.Forever) }()
	})
	require.ErrorIs(t, <-ended, sim.ErrEnded)
}

func TestWorld_SeedFromEnvironment(t *testing.T) {
	t.Setenv(sim.SeedVariable, "42")
	synctest.Test(t, func(t *testing.T) {
		require.Equal(t, uint64(42), sim.New(t).Seed())
	})
}

// A failed test prints what repeats it. The failing test runs in a process of its own.
//
// contract: V5
func TestWorld_FailurePrintsSeed(t *testing.T) {
	if os.Getenv("EPORE_SIM_TEST_FAIL") != "" {
		t.Run("inner", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := sim.New(t)
				w.Sleep(3 * time.Second)
				w.Note("the last line")
				t.Fail()
			})
		})
		return
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWorld_FailurePrintsSeed$", "-test.timeout=30s")
	child.Env = append(os.Environ(), "EPORE_SIM_TEST_FAIL=1", sim.SeedVariable+"=77")
	out, err := child.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "EPORE_SIM_SEED=77 go test -run '^TestWorld_FailurePrintsSeed$/^inner$'")
	require.Contains(t, string(out), "3s the last line")
}
