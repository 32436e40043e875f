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

// patience is how long a case may take before the watchdog considers it hung. It is
// far more than any case needs, even with the race detector on a busy machine.
const patience = time.Minute

// stamina is how long the rounds of a long run may take. The time depends on the
// machine: with a single processor, the runtime takes up to 10 ms to notice that a
// goroutine sleeps in the kernel and to run another one. A slow test must not be
// mistaken for one that hangs.
const stamina = patience / 3

// Rounds yields the round numbers of a test that repeats itself: 0 to short-1. If
// EnvLong enables long runs, it yields 0 to long-1 but stops after a time that
// keeps the test clear of the watchdog; the log then says how far it got. Several
// goroutines may range over the sequence, each with its own count. The time starts
// with the call of Rounds.
func Rounds(t testing.TB, short, long int) iter.Seq[int] {
	begin, rounds, end := time.Now(), short, time.Duration(math.MaxInt64)
	if Long() {
		rounds, end = long, stamina
	}
	return func(yield func(int) bool) {
		for i := range rounds {
			now := time.Now()
			if now.Sub(begin) > end {
				t.Logf("reached %d of %d rounds in %v", i, rounds, end)
				return
			}
			lastRound.Store(&now)
			if !yield(i) {
				return
			}
		}
	}
}

// lastRound is when a round last began. It distinguishes a test that hangs from a
// slow one.
var lastRound atomic.Pointer[time.Time]

// Watchdog prints all stacks and ends the process unless stop is called within a time
// that no test needs. The message names t and rule, the rule that t checks. Watchdog
// counts seconds in which this process was able to run: while the whole machine is
// suspended, no test can make progress.
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
		panic(fmt.Sprintf("%s has not ended after %v%s; the rule is: %s", t.Name(), patience, circumstances(t, begin), rule))
	})
	timer.Reset(tick)
	return func() {
		stopped.Store(true)
		timer.Stop()
	}
}

// circumstances returns what distinguishes a test that hangs from one that is slow or
// that waits for something that failed elsewhere. It is part of the panic message,
// because often that line alone survives of a long output.
func circumstances(t testing.TB, begin time.Time) string {
	s := fmt.Sprintf(" (%d processors", runtime.GOMAXPROCS(0))
	if round := lastRound.Load(); round != nil && round.After(begin) {
		s += fmt.Sprintf("; the last round began %v ago", time.Since(*round).Round(time.Millisecond))
	}
	if t.Failed() {
		s += "; the test had failed before, run it with -v to see how"
	}
	if took := time.Since(begin); took > 2*patience {
		s += fmt.Sprintf("; %v by the wall clock", took.Round(time.Second))
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil { // Linux only
		s += "; load " + string(bytes.TrimSpace(load))
	}
	return s + ")"
}
