package sim

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ErrEnded is the error of a Poll whose World has ended.
var ErrEnded = errors.New("the simulated world has ended")

// SeedVariable is the environment variable that sets the seed of New and Explore.
const SeedVariable = "EPORE_SIM_SEED"

// World is a simulated world. Its methods may be called from any goroutine of its bubble.
type World struct {
	t     testing.TB
	seed  uint64
	begin time.Time
	kick  chan struct{} // tells the scheduler, while it is idle, that something changed

	mu         sync.Mutex
	random     *rand.Rand // used by the scheduler only
	hosts      []*Host
	waiters    []*waiter // in the order in which they were made
	events     eventHeap
	defaults   link
	links      map[[2]*Host]*link // of both directions, by the order of their numbers
	rule       func(*Packet) Verdict
	trace      trace
	faultDraws uint64
	idle       bool // the scheduler waits for kick
	ended      bool
	failed     bool // by the World
	refused    int  // waits of the test that failed at once
	watched    watched
}

// New returns a World that ends with the test. Call it in a bubble. The seed is the value of
// EPORE_SIM_SEED, or random. If the test fails, its log has the seed and the end of the trace.
func New(t *testing.T) *World {
	t.Helper()
	seed, given := seedFromEnvironment(t)
	if !given {
		seed = rand.Uint64()
	}
	return NewSeed(t, seed)
}

func seedFromEnvironment(t testing.TB) (seed uint64, given bool) {
	t.Helper()
	s := os.Getenv(SeedVariable)
	if s == "" {
		return 0, false
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", SeedVariable, err)
	}
	return seed, true
}

// NewSeed is New with the given seed.
func NewSeed(t testing.TB, seed uint64) *World {
	t.Helper()
	if watchdog.has(t) {
		t.Fatal("sim: this test has a World already: a bubble can have one, with as many Hosts as necessary")
	}
	w := &World{t: t, seed: seed, begin: time.Now(), kick: make(chan struct{}, 1), random: rand.New(rand.NewPCG(seed, 0)),
		links: make(map[[2]*Host]*link)}
	defaultLink(&w.defaults, nil)
	w.trace.digest = fnvOffset
	ended := make(chan struct{})
	t.Cleanup(func() {
		w.end()
		<-ended
		switch {
		case panicking(): // package testing loses the log of a bubble that panics
			fmt.Fprintf(os.Stderr, "sim: the test panics; to repeat: %s\n%s\n", w.repeat(), w.trace.last())
		case t.Failed():
			t.Logf("to repeat: %s\n%s", w.repeat(), w.trace.last())
		}
	})
	watchdog.add(w)
	go func() {
		defer close(ended)
		defer watchdog.remove(w)
		w.schedule()
	}()
	return w
}

// panicking reports whether the calling goroutine panics, and runs what was deferred.
func panicking() bool {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for {
		f, more := frames.Next()
		if f.Function == "runtime.gopanic" || !more {
			return f.Function == "runtime.gopanic"
		}
	}
}

// Seed returns the seed.
func (w *World) Seed() uint64 { return w.seed }

// Trace has the World write each line of its trace to out from now on: what arrived where or
// was lost, which events went to which queue, and the Notes, with the virtual time since the
// World began. It writes from several goroutines, one at a time. Nil ends it.
func (w *World) Trace(out io.Writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace.out = out
}

// Note adds a line to the trace.
func (w *World) Note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.record(record{what: noted, text: text})
}

// now returns the virtual time since the World began.
func (w *World) now() time.Duration { return time.Since(w.begin) }

// A waiter is what gets turns: a queue, a Task, or the goroutine of the test. Its fields are
// under the World's lock.
type waiter struct {
	name    string
	host    *Host      // nil: the test
	turn    chan error // holds at most one: it is sent to when waiting ends
	waiting bool
	gone    bool
	refused int // waits that failed at once
	woken   bool
	last    bool          // it gets its turn when nobody else can run
	until   time.Duration // never: no timeout
	awake   func() bool   // nil: never
	ready   func() bool   // nil: never
}

const never = time.Duration(1<<63 - 1)

// newWaiter adds a waiter. Called with the lock held.
func (w *World) newWaiter(name string, host *Host) *waiter {
	c := &waiter{name: name, host: host, turn: make(chan error, 1), until: never}
	w.waiters = append(w.waiters, c)
	return c
}

// remove removes a waiter. Called with the lock held.
func (w *World) remove(c *waiter) {
	c.gone = true
	w.waiters = slices.DeleteFunc(w.waiters, func(other *waiter) bool { return other == c })
}

// wait waits for the next turn of c. Called without the lock.
func (w *World) wait(c *waiter, timeout time.Duration, awake func() bool) error {
	w.mu.Lock()
	if err := w.refusal(c); err != nil {
		n := &c.refused
		if c.host == nil { // a Sleep or Settle, which has a waiter of its own
			n = &w.refused
		}
		*n++
		spins := *n >= ignored
		w.mu.Unlock()
		if spins { // the bubble would never end
			panic(fmt.Sprintf("sim: %s goes on although %d calls of Sleep or Poll have failed: %v: end the goroutine when they fail", c.name, ignored, err))
		}
		return err
	}
	c.waiting, c.awake, c.until = true, awake, never
	if timeout >= 0 {
		if c.until = w.now() + timeout; c.until < 0 {
			c.until = never
		}
	}
	w.changed()
	w.mu.Unlock()
	return <-c.turn
}

// ignored is how many failures in succession a goroutine may ignore.
const ignored = 10_000

// refusal returns why c gets no turn any more.
func (w *World) refusal(c *waiter) error {
	switch {
	case w.ended:
		return ErrEnded
	case c.gone:
		return ErrCrashed
	}
	return nil
}

// stop makes a wait in progress fail. Called with the lock held.
func (c *waiter) stop(err error) {
	if c.waiting {
		c.waiting, c.awake = false, nil
		c.turn <- err
	}
}

// Settle waits until nobody in the World can do anything before the time moves on. Call it
// instead of synctest.Wait, from a goroutine that is not a Task.
func (w *World) Settle() {
	w.mu.Lock()
	c := w.newWaiter("settle", nil)
	c.last = true
	w.mu.Unlock()
	w.pass(c, 0)
}

// Sleep lets the virtual time d pass. Unlike after time.Sleep, what the caller does next
// happens while everybody else is at rest, so that it repeats. With d zero or less, the others
// that can run at this instant may come first. If the World has found a mistake, such as a loop that
// spins, Sleep and Settle end the test, as FailNow does.
func (w *World) Sleep(d time.Duration) {
	w.mu.Lock()
	c := w.newWaiter("test", nil)
	w.mu.Unlock()
	w.pass(c, max(d, 0))
}

// pass lets the time d pass for c, and removes it. If the World has failed, time does not pass any
// more, and the caller could wait indefinitely for something to happen. So it ends.
func (w *World) pass(c *waiter, d time.Duration) {
	err := w.wait(c, d, nil)
	w.mu.Lock()
	w.remove(c)
	failed := err != nil && w.failed
	w.mu.Unlock()
	if failed {
		w.t.FailNow()
	}
}

func (w *World) leave(c *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remove(c)
}

const (
	// turnsPerInstant is how many turns are given before the virtual time moves on by a
	// creep. Otherwise it would stand still while somebody always has something to do.
	turnsPerInstant = 100
	creep           = time.Microsecond
	// deadlock is how long nothing may happen. Only Polls without a timeout, and goroutines
	// that wait for them, wait longer.
	deadlock = 50 * 365 * 24 * time.Hour
)

// schedule gives turns. A turn ends when everybody is at rest again.
func (w *World) schedule() {
	turns := 0
	var instant time.Duration
	for {
		if !w.rest() {
			return
		}
		w.watched.turns.Add(1)
		c, next, ended := w.pick()
		switch {
		case ended:
			return
		case c != nil:
			if now := w.now(); now != instant {
				turns, instant = 0, now
			}
			if turns++; turns%turnsPerInstant == 0 {
				time.Sleep(creep)
				instant = w.now()
				synctest.Wait() // goroutines of the program that slept, too
			}
			c.turn <- nil
		default:
			w.sleep(next)
		}
	}
}

// rest waits until everybody is at rest.
func (w *World) rest() (ok bool) {
	defer func() {
		if !ok {
			w.fail("%v: make one World in a bubble of testing/synctest, and call its Settle instead of synctest.Wait", recover())
		}
	}()
	synctest.Wait()
	return true
}

// sleep waits until next, or for a kick.
func (w *World) sleep(next time.Duration) {
	patience := deadlock
	if next != never {
		patience = next - w.now()
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-timer.C:
		if next == never {
			w.fail("nothing happens any more: %s", w.whoWaits())
		}
	case <-w.kick:
	}
	w.mu.Lock()
	w.idle = false
	w.mu.Unlock()
}

// fail fails the test and ends the World.
func (w *World) fail(format string, args ...any) {
	w.t.Errorf("sim: "+format, args...)
	w.mu.Lock()
	w.failed = true
	w.mu.Unlock()
	w.end()
}

// whoWaits describes those who wait for a turn.
func (w *World) whoWaits() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := ""
	for _, c := range w.waiters {
		if c.waiting {
			text += c.name + " waits; "
		}
	}
	if text == "" {
		return "nobody polls, and all goroutines are blocked"
	}
	return text + "nobody has anything to tell them"
}

// pick applies what is due, and removes a waiter that may run from those that wait. If none
// may, it returns when the first one may. It is called at rest.
func (w *World) pick() (c *waiter, next time.Duration, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return nil, 0, true
	}
	now := w.now()
	w.events.apply(now)
	next = w.events.earliest()
	var chosen, last *waiter
	n := 0
	for _, c := range w.waiters {
		if !c.waiting {
			continue
		}
		if c.woken || c.until <= now || c.ready != nil && c.ready() || c.awake != nil && c.awake() {
			if c.last {
				last = c
			} else if n++; w.random.IntN(n) == 0 {
				chosen = c
			}
		} else {
			next = min(next, c.until)
		}
	}
	if chosen == nil {
		chosen = last
	}
	if chosen == nil {
		w.idle = true
		select { // an old one
		case <-w.kick:
		default:
		}
		return nil, next, false
	}
	chosen.waiting, chosen.woken, chosen.awake = false, false, nil
	w.record(record{what: turned, queue: chosen.name})
	return chosen, 0, false
}

// end makes every Poll of the World fail, now and later.
func (w *World) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.ended = true
	for _, c := range w.waiters {
		c.stop(ErrEnded)
	}
	w.changed()
}

// changed tells the scheduler to look again. Called with the lock held.
func (w *World) changed() {
	if w.idle {
		select {
		case w.kick <- struct{}{}:
		default:
		}
	}
}
