package sim

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// repeat returns the command that repeats the World.
func (w *World) repeat() string {
	name := w.t.Name()
	if i := strings.LastIndex(name, "/"+seedPrefix); i >= 0 {
		name = name[:i]
	}
	return fmt.Sprintf("%s=%d go test -run '^%s$'", SeedVariable, w.seed, strings.ReplaceAll(name, "/", "$/^"))
}

const seedPrefix = "seed="

// Explore runs f in n Worlds, each in a bubble of its own, with the seeds from 0 to n-1. It
// uses all processors, and stops at the first failure. If EPORE_SIM_SEED is set, Explore runs
// only that seed. Call it outside of a bubble.
func Explore(t *testing.T, n int, f func(*testing.T, *World)) {
	t.Helper()
	if seed, given := seedFromEnvironment(t); given {
		explore(t, seed, f)
		return
	}
	if n < 1 {
		t.Fatalf("sim: Explore of %d seeds: nothing would be tested", n)
	}
	measureOnce()
	var next atomic.Int64
	var failed atomic.Bool
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for !failed.Load() {
				seed := next.Add(1) - 1
				if seed >= int64(n) {
					return
				}
				if !explore(t, uint64(seed), f) {
					failed.Store(true)
				}
			}
		})
	}
	workers.Wait()
}

// measureOnce makes package testing measure a duration. On Windows it asks for the frequency of
// the clock when it first does that, without a lock: under the race detector, two tests that end
// at the same time, as the Worlds of Explore do, would fail by it (testing_windows.go, Go 1.26).
var measureOnce = sync.OnceFunc(func() {
	if runtime.GOOS == "windows" {
		var b testing.B
		b.StartTimer()
		b.StopTimer()
	}
})

func explore(t *testing.T, seed uint64, f func(*testing.T, *World)) bool {
	return t.Run(fmt.Sprintf("%s%d", seedPrefix, seed), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, NewSeed(t, seed)) })
	})
}

// Check runs f twice with the same seed, and fails if the traces differ: then f does something
// that does not repeat. See the package comment for what that may be.
func Check(t *testing.T, seed uint64, f func(*testing.T, *World)) {
	t.Helper()
	var traces [2]bytes.Buffer
	for i := range traces {
		ok := t.Run(fmt.Sprintf("run=%d/%s%d", i+1, seedPrefix, seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := NewSeed(t, seed)
				w.Trace(&traces[i])
				f(t, w)
			})
		})
		if !ok {
			return
		}
	}
	a, b := strings.Split(traces[0].String(), "\n"), strings.Split(traces[1].String(), "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Fatalf("the two runs of seed %d differ in line %d of their traces:\n%s\n%s\nbefore it:\n%s", seed, i+1, a[i], b[i],
				strings.Join(a[max(0, i-20):i], "\n"))
		}
	}
	if len(a) != len(b) {
		t.Fatalf("the two runs of seed %d differ: their traces have %d and %d lines", seed, len(a), len(b))
	}
}
