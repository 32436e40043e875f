//lint:file-ignore U1000 The cases use it, and those are for Unix and Windows.

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

// queue is a backend as a case sees it: with the promises kept that the core
// makes (one change at a time, one waiter), and with the core's part of waiting
// done (early returns are waited on, rules M5 and M6 applied).
type queue struct {
	t *testing.T
	backend.Backend

	mu       sync.Mutex                       // one change at a time
	interest map[backend.Key]backend.Interest // what is registered
	handles  map[backend.Handle]backend.Key
	strict   bool // an event of nothing registered is an error

	waits  chan waitRequest
	thread int // that waits
	rounds int // Waits of the backend; to be looked at between two waits
	closed bool
}

type waitRequest struct {
	capacity int
	timeout  time.Duration
	once     bool
	instead  func() // of waiting
	started  chan struct{}
	answer   chan []backend.Event
}

// forever is the timeout without an end.
const forever time.Duration = -1

// soon bounds a wait for something that must come.
const soon = fixture.Soon

// quiet is how long to wait for what must not come. Such a case can only fail
// when the thing comes within that time, so it never fails for slowness.
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
		// All waits on one thread: some queues ask for that.
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

// set notes what is registered: before the call, since events may come at once,
// and as it was when the call fails. An older registration of the same number
// is over, replaced or closed.
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

// source is what a fixture makes.
type source interface{ Handle() backend.Handle }

// add, modify and remove are the same, for cases where they must succeed.
func (q *queue) add(s source, k backend.Key, in backend.Interest) {
	q.t.Helper()
	require.NoError(q.t, q.Add(s.Handle(), k, in), "Add %v for %v", s, in)
}

// addSpecial is add for sources that not every kernel's queue takes.
func (q *queue) addSpecial(s source, k backend.Key, in backend.Interest) {
	q.t.Helper()
	err := q.Add(s.Handle(), k, in)
	if errors.Is(err, backend.ErrNotPollable) {
		q.t.Skipf("not on this kernel: %v: %v", s, err)
	}
	require.NoError(q.t, err, "Add %v for %v", s, in)
}

func (q *queue) modify(s source, k backend.Key, in backend.Interest) {
	q.t.Helper()
	require.NoError(q.t, q.Modify(s.Handle(), k, in), "Modify %v for %v", s, in)
}

func (q *queue) remove(s source) {
	q.t.Helper()
	require.NoError(q.t, q.Delete(s.Handle()), "Delete %v", s)
}

// start begins a wait on the waiting thread and returns when that is about to
// wait; the answer comes from the channel.
func (q *queue) start(capacity int, timeout time.Duration) <-chan []backend.Event {
	r := waitRequest{capacity: capacity, timeout: timeout, started: make(chan struct{}), answer: make(chan []backend.Event, 1)}
	q.waits <- r
	<-r.started
	return r.answer
}

// inLoop does something on the waiting thread, between two waits, as the loop of a
// program does.
func (q *queue) inLoop(do func()) {
	r := waitRequest{instead: do, started: make(chan struct{}), answer: make(chan []backend.Event, 1)}
	q.waits <- r
	<-r.answer
}

// wait waits for at most capacity events, for the whole timeout if none comes.
func (q *queue) wait(capacity int, timeout time.Duration) []backend.Event {
	return <-q.start(capacity, timeout)
}

// once is a single Wait: it may return early.
func (q *queue) once(capacity int, timeout time.Duration) []backend.Event {
	r := waitRequest{capacity: capacity, timeout: timeout, once: true, started: make(chan struct{}), answer: make(chan []backend.Event, 1)}
	q.waits <- r
	return <-r.answer
}

// waitHere is what the core makes of Wait.
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
			q.t.Errorf("Wait returned %d events for a room of %d", n, len(dst))
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

// seen is what a user gets to see of a batch.
func (q *queue) seen(batch []backend.Event) []backend.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []backend.Event
	bits := make(map[backend.Key]backend.Readiness, len(batch))
	for _, ev := range batch {
		in, ok := q.interest[ev.Key]
		if !ok {
			if q.strict {
				q.t.Errorf("an event (%v) of key %#x, which is not registered", ev.Ready, uint64(ev.Key))
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

// expect waits for one registration to be ready and returns its bits, of
// however many events; others are an error.
func (q *queue) expect(k backend.Key) backend.Readiness {
	q.t.Helper()
	events := q.wait(8, soon)
	require.NotEmpty(q.t, events, "no event of key %#x", uint64(k))
	var r backend.Readiness
	for _, ev := range events {
		require.Equal(q.t, k, ev.Key, "the event is of another registration: %v", ev.Ready)
		r |= ev.Ready
	}
	return r
}

// expectBits waits until all of want have been seen for k, over several waits
// if need be, since a kernel may tell one after the other.
func (q *queue) expectBits(k backend.Key, want backend.Readiness) backend.Readiness {
	q.t.Helper()
	var r backend.Readiness
	begin := time.Now()
	for !r.Has(want) {
		require.Less(q.t, time.Since(begin), soon, "saw %v, not all of %v", r, want)
		for _, ev := range q.wait(8, soon) {
			require.Equal(q.t, k, ev.Key, "the event is of another registration: %v", ev.Ready)
			r |= ev.Ready
		}
	}
	return r
}

// silent requires that nothing comes.
func (q *queue) silent(why string) {
	q.t.Helper()
	require.Empty(q.t, q.wait(8, quiet), why)
}
