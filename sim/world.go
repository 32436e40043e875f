// Package sim runs event loops in a simulated world, in virtual time and in an order drawn
// from a seed. The same seed gives the same run.
//
// A World lives in a testing/synctest bubble. Its Hosts give queues for real Polls; one Poll
// at a time runs, until it polls again. So far the world has a clock, Timers, Wakers and
// Mailboxes. It has no network: a queue refuses every descriptor.
//
// A run repeats only if all that happens is done by goroutines that poll. Not repeatable are
// other goroutines that act at one instant, what a goroutine does before its first Poll if
// others see it, a select with several ready cases, the order of a map, and real input and
// output. Only the World may call synctest.Wait.
package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/epore/epore/backend"
)

// ErrEnded is the error of a Poll whose World has ended.
var ErrEnded = errors.New("the simulated world has ended")

// SeedVariable is the environment variable that sets the seed of New.
const SeedVariable = "EPORE_SIM_SEED"

// World is a simulated world. Its methods may be called from any goroutine of its bubble.
type World struct {
	seed  uint64
	begin time.Time
	kick  chan struct{} // tells the scheduler that something changed

	mu     sync.Mutex
	random *rand.Rand // used by the scheduler only
	queues []*queue   // those that are not closed
	lines  []string
	ended  bool
}

// New returns a World that ends with the test. Call it in a bubble. The seed is the value of
// EPORE_SIM_SEED, or random. If the test fails, its log has the seed and the trace's end.
func New(t *testing.T) *World {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv(SeedVariable); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", SeedVariable, err)
		}
	}
	return NewSeed(t, seed)
}

// NewSeed is New with the given seed.
func NewSeed(t *testing.T, seed uint64) *World {
	w := &World{seed: seed, begin: time.Now(), kick: make(chan struct{}, 1), random: rand.New(rand.NewPCG(seed, 0))}
	t.Cleanup(func() {
		w.end()
		if t.Failed() {
			lines := w.Trace()
			t.Logf("to repeat: %s=%d go test -run '^%s$'\n%s", SeedVariable, seed, strings.ReplaceAll(t.Name(), "/", "$/^"),
				strings.Join(lines[max(0, len(lines)-50):], "\n"))
		}
	})
	go w.schedule()
	return w
}

// Seed returns the seed.
func (w *World) Seed() uint64 { return w.seed }

// Trace returns what has happened so far: one line for each turn of a queue and each Note,
// with the virtual time since the World began.
func (w *World) Trace() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.lines...)
}

// Note adds a line to the trace.
func (w *World) Note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(fmt.Sprintf(format, args...))
}

func (w *World) note(line string) {
	w.lines = append(w.lines, time.Since(w.begin).String()+" "+line)
}

// schedule gives turns. A turn ends when everybody is at rest again.
func (w *World) schedule() {
	for {
		synctest.Wait()
		q, next, ended := w.pick()
		switch {
		case ended:
			return
		case q != nil:
			q.turn <- nil
		case next.IsZero():
			<-w.kick
		default:
			timer := time.NewTimer(time.Until(next))
			select {
			case <-timer.C:
			case <-w.kick:
			}
			timer.Stop()
		}
	}
}

// pick removes a queue that may run from those that wait. If none may, it returns when the
// first one may. It is called at rest.
func (w *World) pick() (q *queue, next time.Time, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return nil, next, true
	}
	var ready *queue
	n := 0
	for _, c := range w.queues {
		if !c.waiting {
			continue
		}
		if c.woken || c.awake() || !c.until.IsZero() && !c.until.After(time.Now()) {
			if n++; w.random.IntN(n) == 0 {
				ready = c
			}
		} else if !c.until.IsZero() && (next.IsZero() || c.until.Before(next)) {
			next = c.until
		}
	}
	if ready != nil {
		ready.waiting, ready.woken, ready.awake = false, false, nil
		w.note(ready.name)
	}
	return ready, next, false
}

// end makes every Poll of the World fail, now and later.
func (w *World) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	for _, q := range w.queues {
		if q.waiting {
			q.waiting, q.awake = false, nil
			q.turn <- ErrEnded
		}
	}
	w.changed()
}

func (w *World) changed() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// Host is a machine of a World.
type Host struct {
	w      *World
	name   string
	queues int
}

// Host returns a new Host. The name is for the trace.
func (w *World) Host(name string) *Host { return &Host{w: w, name: name} }

// Backend returns a new queue of the Host, for one Poll. Create the queues of a World in an
// order that does not vary, because the draws go by it.
func (h *Host) Backend() backend.Backend {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.queues++
	q := &queue{w: h.w, name: fmt.Sprintf("%s/%d", h.name, h.queues), turn: make(chan error, 1)}
	h.w.queues = append(h.w.queues, q)
	return q
}

// queue is a backend and a backend.Quiescer. Its fields are under the World's lock.
type queue struct {
	w       *World
	name    string
	turn    chan error // holds at most one: it is sent to when waiting ends
	waiting bool
	woken   bool
	until   time.Time // zero: no timeout
	awake   func() bool
}

var _ backend.Quiescer = (*queue)(nil)

func (q *queue) Name() string { return "sim" }
func (q *queue) Open() error  { return nil }

func (q *queue) Capabilities() backend.Capabilities {
	return backend.Capabilities{Interests: backend.Readable | backend.Writable, Resolution: 1}
}

func (q *queue) Add(backend.Handle, backend.Key, backend.Interest) error {
	return backend.ErrNotPollable
}

func (q *queue) Modify(backend.Handle, backend.Key, backend.Interest) error {
	return backend.ErrNotPollable
}

func (q *queue) Delete(backend.Handle) error { return backend.ErrNotPollable }

// Wait finds nothing, because nothing is watched. The core calls it with timeout zero.
func (q *queue) Wait([]backend.Event, time.Duration) (int, error) { return 0, nil }

func (q *queue) WaitQuiet(timeout time.Duration, awake func() bool) error {
	w := q.w
	w.mu.Lock()
	if w.ended {
		w.mu.Unlock()
		return ErrEnded
	}
	q.waiting, q.awake, q.until = true, awake, time.Time{}
	if timeout >= 0 {
		q.until = time.Now().Add(timeout)
	}
	w.changed()
	w.mu.Unlock()
	return <-q.turn
}

func (q *queue) Wake() error {
	q.w.mu.Lock()
	defer q.w.mu.Unlock()
	q.woken = true
	q.w.changed()
	return nil
}

func (q *queue) Close() error {
	q.w.mu.Lock()
	defer q.w.mu.Unlock()
	q.w.queues = slices.DeleteFunc(q.w.queues, func(c *queue) bool { return c == q })
	return nil
}
