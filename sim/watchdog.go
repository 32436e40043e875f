package sim

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// watched is how a watchdog sees a World.
type watched struct {
	turns atomic.Uint64
	seen  uint64
	since time.Time
	told  bool
}

// watchdog looks, in real time, for Worlds that hang: a goroutine of the bubble computes for
// ever, waits for a mutex that nobody unlocks, or for something outside of the bubble. Such a
// World never is at rest, and testing/synctest says nothing about it. The goroutine is started
// here because one that is started in a bubble has only virtual time.
var watchdog = newDog()

// hanging is how long a World may take for a turn.
const hanging = 20 * time.Second

type dog struct {
	mu       sync.Mutex
	worlds   map[*World]struct{}
	patience time.Duration
	now      time.Time
}

func newDog() *dog {
	d := &dog{worlds: make(map[*World]struct{}), patience: hanging, now: time.Now()}
	// A timer in the runtime's heap opens the runtime's poller. The one of Tick would do that
	// when the goroutine first waits, and the runtime ends a program that has run out of
	// descriptors by then.
	time.AfterFunc(time.Hour, func() {}).Stop()
	go func() {
		for now := range time.Tick(time.Second / 4) {
			d.look(now)
		}
	}()
	return d
}

func (d *dog) add(w *World) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.worlds[w] = struct{}{}
}

// has reports whether a World of t exists.
func (d *dog) has(t testing.TB) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.worlds {
		if w.t == t {
			return true
		}
	}
	return false
}

func (d *dog) remove(w *World) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.worlds, w)
}

// look prints all goroutines, once, when a World hangs.
func (d *dog) look(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = now
	for w := range d.worlds {
		s := &w.watched
		if turns := s.turns.Load(); s.since.IsZero() || turns != s.seen {
			s.seen, s.since = turns, now
		} else if !s.told && now.Sub(s.since) > d.patience {
			s.told = true
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			fmt.Fprintf(os.Stderr, "sim: the World of seed %d in %s hangs: in %v of real time it was never at rest. "+
				"A goroutine computes, or waits for a mutex, for real input or output, or for something outside of the bubble:\n%s\n",
				w.seed, w.t.Name(), d.patience, stacks)
		}
	}
}
