package backendtest

import (
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/epore/epore/backend"
)

// Fake is a backend without a kernel: the test says what is ready. Handles are
// any numbers. It is for testing the core, in two ways: it can do what real
// kernels do rarely (return early, fail, deliver a key that is stale), and it
// checks the promises that the core makes to a backend; see Violations.
//
// Readiness is a state, as in a kernel: SetReady says what holds now. Level
// reports it by every Wait, edge when a bit arises, one-shot once.
type Fake struct {
	mu       sync.Mutex
	watched  map[backend.Handle]*watch
	order    []backend.Handle // who is reported first; rotates
	ready    map[backend.Handle]backend.Readiness
	injected []backend.Event
	early    []error // what the next Waits return at once, with no event
	failures map[string]error
	woken    bool
	changed  chan struct{} // closed and replaced when a Wait should look again

	opened, closed              atomic.Bool
	waiting, changing, anything atomic.Int32
	violations                  []string
	wakes                       atomic.Int64
}

type watch struct {
	key  backend.Key
	in   backend.Interest
	edge backend.Readiness // bits that arose and were not reported yet
	shot bool
}

// NewFake returns a Fake that is not open yet.
func NewFake() *Fake {
	return &Fake{
		watched:  make(map[backend.Handle]*watch),
		ready:    make(map[backend.Handle]backend.Readiness),
		failures: make(map[string]error),
		changed:  make(chan struct{}),
	}
}

var _ backend.Backend = (*Fake)(nil)

// SetReady says what h is ready for from now on. Bits that it did not have
// before are an edge.
func (f *Fake) SetReady(h backend.Handle, r backend.Readiness) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := f.watched[h]; w != nil {
		w.edge |= r &^ f.ready[h]
	}
	f.ready[h] = r
	f.look()
}

// CloseHandle is the closing of a descriptor: the kernel forgets its
// registration.
func (f *Fake) CloseHandle(h backend.Handle) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unwatch(h)
	delete(f.ready, h)
}

// KeyOf returns the key that h is registered under.
func (f *Fake) KeyOf(h backend.Handle) (backend.Key, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := f.watched[h]; w != nil {
		return w.key, true
	}
	return 0, false
}

// Inject has the next Waits deliver these events as they are, whatever is
// registered.
func (f *Fake) Inject(events ...backend.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.injected = append(f.injected, events...)
	f.look()
}

// ReturnEarly has the next n Waits end at once, without events and with err:
// nil, or an interruption.
func (f *Fake) ReturnEarly(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		f.early = append(f.early, err)
	}
	f.look()
}

// FailNext makes the next call of a method ("Open", "Add", "Modify", "Delete",
// "Wait", "Wake", "Close") fail with err and change nothing.
func (f *Fake) FailNext(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures[method] = err
	f.look()
}

// Wakes returns how many times Wake was called.
func (f *Fake) Wakes() int { return int(f.wakes.Load()) }

// Watched returns how many handles are registered.
func (f *Fake) Watched() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watched)
}

// Violations returns the promises of package backend that the caller broke.
func (f *Fake) Violations() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.violations
}

// Name implements [backend.Backend].
func (f *Fake) Name() string { return "fake" }

// Open implements [backend.Backend].
func (f *Fake) Open(backend.Config) error {
	if err := f.fail("Open"); err != nil {
		return err
	}
	if f.opened.Swap(true) {
		f.violated("opened twice")
	}
	return nil
}

// Capabilities implements [backend.Backend].
func (f *Fake) Capabilities() backend.Capabilities {
	return backend.Capabilities{
		Interests:  backend.Readable | backend.Writable | backend.Priority | backend.Edge | backend.OneShot,
		Resolution: time.Nanosecond,
	}
}

// Add implements [backend.Backend].
func (f *Fake) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	defer f.enter("Add", &f.changing, 1)()
	if err := f.fail("Add"); err != nil {
		return err
	}
	f.checkChange(k, in)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watched[h] != nil {
		return fs.ErrExist
	}
	f.order = append(f.order, h)
	f.watch(h, k, in)
	return nil
}

// Modify implements [backend.Backend].
func (f *Fake) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	defer f.enter("Modify", &f.changing, 1)()
	if err := f.fail("Modify"); err != nil {
		return err
	}
	f.checkChange(k, in)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watched[h] == nil {
		return fs.ErrNotExist
	}
	f.watch(h, k, in)
	return nil
}

// Delete implements [backend.Backend].
func (f *Fake) Delete(h backend.Handle) error {
	defer f.enter("Delete", &f.changing, 1)()
	if err := f.fail("Delete"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watched[h] == nil {
		return fs.ErrNotExist
	}
	f.unwatch(h)
	return nil
}

// Wait implements [backend.Backend].
func (f *Fake) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	defer f.enter("Wait", &f.waiting, 1)()
	if len(dst) == 0 {
		f.violated("Wait without room")
	}
	if err := f.fail("Wait"); err != nil {
		return 0, err
	}
	var over <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		over = timer.C
	}
	for {
		f.mu.Lock()
		n, done, err := f.collect(dst)
		changed := f.changed
		f.mu.Unlock()
		if done || timeout == 0 {
			return n, err
		}
		select {
		case <-changed:
		case <-over:
			return 0, nil
		}
	}
}

// Wake implements [backend.Backend].
func (f *Fake) Wake() error {
	defer f.enter("Wake", nil, 0)()
	f.wakes.Add(1)
	if err := f.fail("Wake"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.woken = true
	f.look()
	return nil
}

// Close implements [backend.Backend].
func (f *Fake) Close() error {
	if f.anything.Load() != 0 {
		f.violated("Close beside another call")
	}
	if f.closed.Swap(true) {
		f.violated("closed twice")
	}
	return f.fail("Close")
}

// collect does what a Wait finds to do. Under mu.
func (f *Fake) collect(dst []backend.Event) (n int, done bool, err error) {
	if len(f.early) > 0 {
		err, f.early = f.early[0], f.early[1:]
		return 0, true, err
	}
	n = copy(dst, f.injected)
	f.injected = f.injected[n:]
	for range len(f.order) {
		if n == len(dst) {
			break
		}
		h := f.order[0]
		f.order = append(f.order[1:], h)
		if r := f.watched[h].report(f.ready[h]); r != 0 {
			dst[n] = backend.Event{Key: f.watched[h].key, Ready: r}
			n++
		}
	}
	if n == 0 && f.woken {
		f.woken = false
		return 0, true, nil
	}
	return n, n > 0, nil
}

// report is what a registration has to say, given what its source is ready for.
func (w *watch) report(now backend.Readiness) backend.Readiness {
	r := now
	if w.in.Has(backend.Edge) {
		r &= w.edge
	}
	if r = r.For(w.in); r == 0 || w.shot {
		return 0
	}
	w.edge = 0
	w.shot = w.in.Has(backend.OneShot)
	return r
}

// watch registers h, armed: what is ready now counts as an edge. Under mu.
func (f *Fake) watch(h backend.Handle, k backend.Key, in backend.Interest) {
	f.watched[h] = &watch{key: k, in: in, edge: f.ready[h]}
	f.look()
}

// unwatch forgets h. Under mu.
func (f *Fake) unwatch(h backend.Handle) {
	delete(f.watched, h)
	for i, o := range f.order {
		if o == h {
			f.order = append(f.order[:i], f.order[i+1:]...)
			break
		}
	}
}

// look has a Wait in progress look again. Under mu.
func (f *Fake) look() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// fail returns the failure that was ordered for method.
func (f *Fake) fail(method string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.failures[method]
	delete(f.failures, method)
	return err
}

// enter notes that method runs, beside at most limit others that count in
// among, and returns what ends it.
func (f *Fake) enter(method string, among *atomic.Int32, limit int32) (leave func()) {
	f.anything.Add(1)
	if !f.opened.Load() {
		f.violated(method + " before Open")
	}
	if f.closed.Load() {
		f.violated(method + " after Close")
	}
	if among != nil && among.Add(1) > limit {
		f.violated(method + " beside another one")
	}
	return func() {
		if among != nil {
			among.Add(-1)
		}
		f.anything.Add(-1)
	}
}

// checkChange checks what the core promises about the arguments.
func (f *Fake) checkChange(k backend.Key, in backend.Interest) {
	if k == 0 {
		f.violated("the key zero")
	}
	if in&backend.Conditions == 0 || in.Unknown() != 0 || in.Has(backend.Exclusive|backend.OneShot) ||
		in&^f.Capabilities().Interests != 0 {
		f.violated(fmt.Sprintf("the interest %v", in))
	}
}

func (f *Fake) violated(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.violations = append(f.violations, what)
}
