//lint:file-ignore U1000 Only the cases use it, and they exist on Unix and Windows.

package backendtest

import (
	"errors"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// queue does for a backend what the core does: it makes one change at a time, has
// one waiter, waits again after an early return, and applies rules M5 and M6.
type queue struct {
	t *testing.T
	backend.Backend

	mu       sync.Mutex                       // one change at a time
	interest map[backend.Key]backend.Interest // what is registered
	handles  map[backend.Handle]backend.Key
	strict   bool              // an event of an unregistered key is an error
	missing  backend.Readiness // hints that need not come

	waits  chan waitRequest
	thread int // the thread that waits
	rounds int // number of calls of the backend's Wait; read it between two waits
	closed bool
}

type waitRequest struct {
	capacity int
	timeout  time.Duration
	once     bool
	instead  func() // called in place of a wait
	started  chan struct{}
	answer   chan []backend.Event
}

// forever is the timeout of a wait that does not expire.
const forever time.Duration = -1

// soon limits a wait for something that must come.
const soon = fixture.Soon

// quiet is how long a case waits to see that nothing comes. The case fails only if
// something comes within that time, so a slow machine cannot make it fail.
const quiet = 5 * time.Millisecond

func newQueue(t *testing.T, b backend.Backend) *queue {
	q := &queue{
		t: t, Backend: b, strict: true,
		interest: make(map[backend.Key]backend.Interest),
		handles:  make(map[backend.Handle]backend.Key),
		waits:    make(chan waitRequest),
	}
	ended := make(chan struct{})
	go func() {
		// All waits are on one thread: some queues require it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		q.thread = fixture.Thread()
		for r := range q.waits {
			close(r.started)
			if r.instead != nil {
				r.instead()
				r.answer <- nil
				continue
			}
			r.answer <- q.waitHere(r)
		}
	}()
	t.Cleanup(func() {
		close(q.waits)
		<-ended
		q.close()
	})
	return q
}

// close closes the backend, once.
func (q *queue) close() {
	if !q.closed {
		q.closed = true
		require.NoError(q.t, q.Backend.Close())
	}
}

// Add registers h under k.
func (q *queue) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	return q.set(q.Backend.Add, h, k, in)
}

// Modify replaces the registration of h.
func (q *queue) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	return q.set(q.Backend.Modify, h, k, in)
}

// set records what is registered. It does so before the call, because events may
// come at once, and undoes it if the call fails. Success ends an older
// registration of the same number, which was replaced or closed.
func (q *queue) set(change func(backend.Handle, backend.Key, backend.Interest) error,
	h backend.Handle, k backend.Key, in backend.Interest) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	was, had := q.interest[k]
	q.interest[k] = in
	err := change(h, k, in)
	switch {
	case err == nil:
		if before, ok := q.handles[h]; ok && before != k {
			delete(q.interest, before)
		}
		q.handles[h] = k
	case had:
		q.interest[k] = was
	default:
		delete(q.interest, k)
	}
	return err
}

// Delete ends the registration of h.
func (q *queue) Delete(h backend.Handle) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	err := q.Backend.Delete(h)
	if err == nil {
		delete(q.interest, q.handles[h])
		delete(q.handles, h)
	}
	return err
}

// source is anything that package fixture makes.
type source interface{ Handle() backend.Handle }

// add is Add for cases where it must succeed.
func (q *queue) add(s source, k backend.Key, in backend.Interest) {
	q.t.Helper()
	require.NoError(q.t, q.Add(s.Handle(), k, in), "Add %v for %v", s, in)
}

// addSpecial is add for sources that some kernels refuse. It then skips the case.
func (q *queue) addSpecial(s source, k backend.Key, in backend.Interest) {
	q.t.Helper()
	err := q.Add(s.Handle(), k, in)
	if errors.Is(err, backend.ErrNotPollable) {
		q.t.Skipf("this kernel refuses %v: %v", s, err)
	}
	require.NoError(q.t, err, "Add %v for %v", s, in)
}

// modify is Modify for cases where it must succeed.
func (q *queue) modify(s source, k backend.Key, in backend.Interest) {
	q.t.Helper()
	require.NoError(q.t, q.Modify(s.Handle(), k, in), "Modify %v for %v", s, in)
}

// remove is Delete for cases where it must succeed.
func (q *queue) remove(s source) {
	q.t.Helper()
	require.NoError(q.t, q.Delete(s.Handle()), "Delete %v", s)
}

// start begins a wait on the waiting thread and returns when that thread is about
// to wait. The channel delivers the result.
func (q *queue) start(capacity int, timeout time.Duration) <-chan []backend.Event {
	r := waitRequest{capacity: capacity, timeout: timeout, started: make(chan struct{}), answer: make(chan []backend.Event, 1)}
	q.waits <- r
	<-r.started
	return r.answer
}

// inLoop calls do on the waiting thread between two waits, like the loop of a
// program.
func (q *queue) inLoop(do func()) {
	r := waitRequest{instead: do, started: make(chan struct{}), answer: make(chan []backend.Event, 1)}
	q.waits <- r
	<-r.answer
}

// wait waits for up to capacity events, or until the timeout expires.
func (q *queue) wait(capacity int, timeout time.Duration) []backend.Event {
	return <-q.start(capacity, timeout)
}

// once calls the backend's Wait once, so it may return early.
func (q *queue) once(capacity int, timeout time.Duration) []backend.Event {
	r := waitRequest{capacity: capacity, timeout: timeout, once: true, started: make(chan struct{}), answer: make(chan []backend.Event, 1)}
	q.waits <- r
	return <-r.answer
}

// waitHere waits like the core: again after each early return.
func (q *queue) waitHere(r waitRequest) []backend.Event {
	dst := make([]backend.Event, r.capacity)
	begin := time.Now()
	left := r.timeout
	for {
		q.rounds++
		n, err := q.Backend.Wait(dst, left)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			q.t.Errorf("Wait: %v", err)
			return nil
		}
		if n > len(dst) {
			q.t.Errorf("Wait returned %d events, with room for %d", n, len(dst))
			return nil
		}
		events := q.seen(dst[:n])
		if len(events) > 0 || r.once {
			return events
		}
		if r.timeout >= 0 {
			if left = r.timeout - time.Since(begin); left <= 0 {
				return nil
			}
		}
	}
}

// seen returns the events of a batch that the core would deliver. Every case checks its
// batches here.
// contract: P6
func (q *queue) seen(batch []backend.Event) []backend.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []backend.Event
	bits := make(map[backend.Key]backend.Readiness, len(batch))
	for _, ev := range batch {
		in, ok := q.interest[ev.Key]
		if !ok {
			if q.strict {
				q.t.Errorf("event %v of key %#x, which is not registered", ev.Ready, uint64(ev.Key))
			}
			continue
		}
		if ev.Ready = ev.Ready.For(in); ev.Ready == 0 {
			continue
		}
		const conditions = backend.ReadyReadable | backend.ReadyWritable | backend.ReadyPriority
		if twice := bits[ev.Key] & ev.Ready & conditions; twice != 0 {
			q.t.Errorf("%v twice in one batch for key %#x", twice, uint64(ev.Key))
		}
		bits[ev.Key] |= ev.Ready
		out = append(out, ev)
	}
	return out
}

// expect waits for events of registration k and returns all their bits. An event of
// another registration is an error.
func (q *queue) expect(k backend.Key) backend.Readiness {
	q.t.Helper()
	events := q.wait(8, soon)
	require.NotEmpty(q.t, events, "no event of key %#x", uint64(k))
	var r backend.Readiness
	for _, ev := range events {
		require.Equal(q.t, k, ev.Key, "event of another registration: %v", ev.Ready)
		r |= ev.Ready
	}
	return r
}

// expectBits waits until k has reported all of want. It may take several waits,
// because a kernel may report the bits one after the other.
func (q *queue) expectBits(k backend.Key, want backend.Readiness) backend.Readiness {
	q.t.Helper()
	want &^= q.missing
	var r backend.Readiness
	begin := time.Now()
	for !r.Has(want) {
		require.Less(q.t, time.Since(begin), soon, "saw %v, not all of %v", r, want)
		for _, ev := range q.wait(8, soon) {
			require.Equal(q.t, k, ev.Key, "event of another registration: %v", ev.Ready)
			r |= ev.Ready
		}
	}
	return r
}

// requireBits requires the bits want of r, except hints that need not come.
func (q *queue) requireBits(want, r backend.Readiness) {
	q.t.Helper()
	require.True(q.t, r.Has(want&^q.missing), "%v, not all of %v", r, want)
}

// silent requires that no event comes within quiet.
func (q *queue) silent(why string) {
	q.t.Helper()
	require.Empty(q.t, q.wait(8, quiet), why)
}
