package backendtest

import (
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/epore/epore/backend"
)

// Fake is a backend without a kernel: the test sets what is ready, and handles are
// arbitrary numbers. It does on demand what real kernels do rarely: return early,
// fail, deliver a stale key. It also records every call that breaks a guarantee of
// [backend.Backend]; see [Fake.Violations].
//
// Readiness is a state, as in a kernel: SetReady sets what holds now. A
// level-triggered registration reports it in every Wait, an edge-triggered one
// when a bit arises, and a one-shot one once.
//
// All methods may be called from any goroutine.
type Fake struct {
	mu       sync.Mutex
	watched  map[backend.Handle]*watch
	order    []backend.Handle // the first one is reported first; rotates
	ready    map[backend.Handle]backend.Readiness
	injected []backend.Event
	early    []error // the results of the next Waits, which return at once with no event
	failures map[string]error
	woken    bool
	changed  chan struct{} // closed and replaced to make a Wait look again

	state                       atomic.Int32 // one of the values below
	waiting, changing, anything atomic.Int32 // calls in progress
	violations                  []string
	wakes                       atomic.Int64
}

// The values of Fake.state.
const (
	fakeNew = iota
	fakeOpen
	fakeRefused // Open failed
	fakeClosed
)

type watch struct {
	key  backend.Key
	in   backend.Interest
	edge backend.Readiness // bits that arose and are not reported yet
	shot bool
}

// NewFake returns a Fake that is not open.
func NewFake() *Fake {
	return &Fake{
		watched:  make(map[backend.Handle]*watch),
		ready:    make(map[backend.Handle]backend.Readiness),
		failures: make(map[string]error),
		changed:  make(chan struct{}),
	}
}

var _ backend.Backend = (*Fake)(nil)

// SetReady sets the readiness of h. Bits that were not set before are an edge.
func (f *Fake) SetReady(h backend.Handle, r backend.Readiness) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := f.watched[h]; w != nil {
		w.edge |= r &^ f.ready[h]
	}
	f.ready[h] = r
	f.look()
}

// CloseHandle does what closing a descriptor does: it removes the registration.
func (f *Fake) CloseHandle(h backend.Handle) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unwatch(h)
	delete(f.ready, h)
}

// KeyOf returns the key that h is registered under, and whether it is registered.
func (f *Fake) KeyOf(h backend.Handle) (backend.Key, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := f.watched[h]; w != nil {
		return w.key, true
	}
	return 0, false
}

// Inject makes the next Waits deliver these events unchanged, whatever is
// registered.
func (f *Fake) Inject(events ...backend.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.injected = append(f.injected, events...)
	f.look()
}

// ReturnEarly makes the next n Waits return err at once, without events. An early
// return that a backend is allowed has a nil err or EINTR.
func (f *Fake) ReturnEarly(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		f.early = append(f.early, err)
	}
	f.look()
}

// FailNext makes the next call of a method ("Open", "Add", "Modify", "Delete",
// "Wait", "Wake" or "Close") fail with err and change nothing. Open and Close take
// effect on which calls Violations allows.
func (f *Fake) FailNext(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures[method] = err
	f.look()
}

// Wakes returns the number of calls of Wake.
func (f *Fake) Wakes() int { return int(f.wakes.Load()) }

// Watched returns the number of registered handles.
func (f *Fake) Watched() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watched)
}

// Violations returns a description of each call so far that broke a guarantee of
// [backend.Backend]: a call before Open, after a failed Open or after Close; two
// changes or two Waits at once; Close during another call; a zero Key, or an
// Interest that should have been refused.
func (f *Fake) Violations() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.violations
}

// Name implements [backend.Backend].
func (f *Fake) Name() string { return "fake" }

// Open implements [backend.Backend].
func (f *Fake) Open() error {
	err := f.fail("Open")
	next := int32(fakeOpen)
	if err != nil {
		next = fakeRefused
	}
	if f.state.Swap(next) != fakeNew {
		f.violated("second Open")
	}
	return err
}

// Capabilities implements [backend.Backend].
func (f *Fake) Capabilities() backend.Capabilities {
	defer f.enter("Capabilities", nil)()
	return backend.Capabilities{
		Interests:  fakeInterests,
		Resolution: time.Nanosecond,
	}
}

const fakeInterests = backend.Readable | backend.Writable | backend.Priority | backend.Edge | backend.OneShot

// Add implements [backend.Backend].
func (f *Fake) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	defer f.enter("Add", &f.changing)()
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
	defer f.enter("Modify", &f.changing)()
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
	defer f.enter("Delete", &f.changing)()
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
	defer f.enter("Wait", &f.waiting)()
	if len(dst) == 0 {
		f.violated("Wait with no room for an event")
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
	defer f.enter("Wake", nil)()
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
	defer f.enter("Close", nil)()
	if f.anything.Load() > 1 {
		f.violated("Close during another call")
	}
	f.state.Store(fakeClosed)
	return f.fail("Close")
}

// collect fills dst with what is ready. done means that the Wait returns even if n
// is zero. The caller holds mu.
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

// report returns what a registration reports while its source is ready for now, and
// counts it as reported.
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

// watch registers h. What is ready now counts as an edge. The caller holds mu.
func (f *Fake) watch(h backend.Handle, k backend.Key, in backend.Interest) {
	f.watched[h] = &watch{key: k, in: in, edge: f.ready[h]}
	f.look()
}

// unwatch removes the registration of h. The caller holds mu.
func (f *Fake) unwatch(h backend.Handle) {
	delete(f.watched, h)
	for i, o := range f.order {
		if o == h {
			f.order = append(f.order[:i], f.order[i+1:]...)
			break
		}
	}
}

// look makes a Wait in progress look again. The caller holds mu.
func (f *Fake) look() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// fail returns the error that FailNext set for method.
func (f *Fake) fail(method string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.failures[method]
	delete(f.failures, method)
	return err
}

// enter records that a call of method begins, and a violation if the Fake is not
// open or if another call that counts in among is in progress. The caller must
// call leave when method returns.
func (f *Fake) enter(method string, among *atomic.Int32) (leave func()) {
	f.anything.Add(1)
	switch f.state.Load() {
	case fakeNew:
		f.violated(method + " before Open")
	case fakeRefused:
		f.violated(method + " after a failed Open")
	case fakeClosed:
		f.violated(method + " after Close")
	}
	if among != nil && among.Add(1) > 1 {
		f.violated("concurrent " + method)
	}
	return func() {
		if among != nil {
			among.Add(-1)
		}
		f.anything.Add(-1)
	}
}

// checkChange checks what the core guarantees about the arguments of a change.
func (f *Fake) checkChange(k backend.Key, in backend.Interest) {
	if k == 0 {
		f.violated("zero Key")
	}
	if in&backend.Conditions == 0 || in.Unknown() != 0 || in.Has(backend.Exclusive|backend.OneShot) ||
		in&^fakeInterests != 0 {
		f.violated(fmt.Sprintf("invalid Interest %v", in))
	}
}

func (f *Fake) violated(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.violations = append(f.violations, what)
}
