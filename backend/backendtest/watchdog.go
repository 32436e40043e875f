package backendtest

import (
	"bytes"
	"fmt"
	"iter"
	"math"
	"os"
	"runtime"
	"runtime/pprof"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long a case may take before the watchdog calls it hung: far
// more than any needs, also with the race detector on a busy machine.
const patience = time.Minute

// stamina is how long the rounds of a long run may take. What they take depends on the
// machine: one with a single busy processor has it given to another goroutine only when
// the runtime notices that the first one sleeps in the kernel, up to 10 ms later. A test
// that is slow is not to be taken for one that hangs.
const stamina = patience / 3

// Rounds counts the rounds of a test that is to be repeated as often as possible: short
// of them; or, when long runs are asked for, long ones, but no more than begin within
// the time that a test has for them: the log tells what was reached. Several goroutines
// may range over it; the time begins with the call.
func Rounds(t testing.TB, short, long int) iter.Seq[int] {
	begin, rounds, end := time.Now(), short, time.Duration(math.MaxInt64)
	if Long() {
		rounds, end = long, stamina
	}
	return func(yield func(int) bool) {
		for i := range rounds {
			now := time.Now()
			if now.Sub(begin) > end {
				t.Logf("reached %d of %d rounds, within %v", i, rounds, end)
				return
			}
			lastRound.Store(&now)
			if !yield(i) {
				return
			}
		}
	}
}

// lastRound is when a round last began: it tells a test that hangs from one that is
// merely slow.
var lastRound atomic.Pointer[time.Time]

// Watchdog ends the process, with all stacks, when the returned function has
// not been called after a time that no test needs: t hangs, and rule is what it was to
// show. The time is counted in seconds that the process has seen: one in which the whole
// machine stood still is none in which a test could have ended.
func Watchdog(t testing.TB, rule string) (stop func()) {
	const tick = time.Second
	var stopped atomic.Bool
	var timer *time.Timer
	begin := time.Now()
	left := int(patience / tick)
	timer = time.AfterFunc(time.Hour, func() {
		if stopped.Load() {
			return
		}
		if left--; left > 0 {
			timer.Reset(tick)
			return
		}
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		panic(fmt.Sprintf("%s hangs since %v%s. The rule: %s", t.Name(), patience, circumstances(t, begin), rule))
	})
	timer.Reset(tick)
	return func() {
		stopped.Store(true)
		timer.Stop()
	}
}

// circumstances are what tells a test that hangs from one that is slow, or that waits for
// what has failed elsewhere: in the one line that is left of a long output.
func circumstances(t testing.TB, begin time.Time) string {
	s := fmt.Sprintf(" (%d processors", runtime.GOMAXPROCS(0))
	if round := lastRound.Load(); round != nil && round.After(begin) {
		s += fmt.Sprintf("; the last round began %v ago", time.Since(*round).Round(time.Millisecond))
	}
	if t.Failed() {
		s += "; something has failed before, run it with -v to see what"
	}
	if took := time.Since(begin); took > 2*patience {
		s += fmt.Sprintf("; by the clock it is %v", took.Round(time.Second))
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil { // of Linux
		s += "; load " + string(bytes.TrimSpace(load))
	}
	return s + ")"
}
