package backendtest_test

import (
	"os"
	"os/exec"
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
		{name: "short runs ignore the time", round: time.Minute, shortest: 5, after: 5},
		{name: "long runs", long: "1", round: time.Millisecond, shortest: 50, after: 50},
		{name: "long runs on a slow machine", long: "1", round: time.Second, shortest: 10, after: 30},
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
				require.LessOrEqual(t, len(got), c.after, "the watchdog would have ended the process")
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

// The watchdog ends the process, so the test runs it in a child process, in a
// synctest bubble where a minute takes no time.
func TestWatchdog(t *testing.T) {
	const env = "BACKENDTEST_HANGS"
	switch os.Getenv(env) {
	case "":
	case "no":
		synctest.Test(t, func(t *testing.T) {
			stop := backendtest.Watchdog(t, "the rule")
			time.Sleep(59 * time.Second)
			stop()
			time.Sleep(time.Hour)
		})
		return
	default:
		synctest.Test(t, func(t *testing.T) {
			defer backendtest.Watchdog(t, "the rule")()
			for i := range backendtest.Rounds(t, 3, 3) {
				if i == 2 {
					t.Error("printed only with -v")
					time.Sleep(time.Hour)
				}
				time.Sleep(9 * time.Second)
			}
		})
		return
	}
	again := func(hangs string) (string, error) {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestWatchdog$")
		cmd.Env = append(os.Environ(), env+"="+hangs)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := again("no")
	require.NoError(t, err, out)
	out, err = again("yes")
	require.Error(t, err)
	for _, want := range []string{
		"TestWatchdog has not ended after 1m0s (", " processors; the last round began 42s ago; the test had failed before",
		"the rule is: the rule", "backendtest_test.TestWatchdog.func",
	} {
		require.Contains(t, out, want)
	}
}
