//go:build unix || windows

package conformance_test

import (
	"errors"
	"io/fs"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
)

// FuzzAPI reads its input as a program that calls the public API, and runs it on the
// Fake, which checks what the core promises to a backend, or on the queue of this system.
// Nothing may panic; each call returns the error of its situation, an *OpError; and each
// event belongs to a registration that is live, and says nothing that was not asked for.
// contract: E3
func FuzzAPI(f *testing.F) {
	for _, onFake := range []byte{0, 1} {
		for _, seed := range fuzzSeeds {
			f.Add(append([]byte{onFake}, seed...))
			f.Add(append([]byte{onFake | 2}, seed...)) // Block
		}
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 512 { // longer ones find nothing that shorter ones do not
			return
		}
		w := newFuzzWorld(t, &fuzzBytes{program})
		defer w.close()
		for len(w.input.rest) > 0 {
			w.step()
		}
		w.drain()
	})
}

// What a byte of a program does, modulo their number. The comments name the bytes that
// the operation reads.
const (
	fuzzRegister   = iota // source, interest
	fuzzReregister        // source, interest
	fuzzDeregister        // source
	fuzzReady             // source, conditions
	fuzzPoll
	fuzzChangeInLoop // source: deregistered at the first event
	fuzzWaker        // which, what to do
	fuzzTimer        // which, what to do
	fuzzMailbox      // what to do
	fuzzClone        // what to do
	fuzzRoom         // capacity
	fuzzFail         // method
	fuzzEarly        // how often, error
	fuzzStale        // which key
	fuzzForget       // source: closed without Deregister
	fuzzOperations
)

// fuzzSeeds are programs that reach each operation.
var fuzzSeeds = [][]byte{
	{},
	{fuzzRegister, 0, 1, fuzzReady, 0, 1, fuzzPoll, fuzzReregister, 0, 3, fuzzPoll, fuzzDeregister, 0, fuzzPoll},
	{fuzzRegister, 0, 1 | 8, fuzzRegister, 1, 3 | 16, fuzzReady, 0, 1, fuzzReady, 1, 1, fuzzPoll, fuzzPoll, fuzzReregister, 1, 1, fuzzPoll},
	{fuzzRegister, 0, 0, fuzzRegister, 1, 255, fuzzRegister, 2, 48 | 1, fuzzRegister, 3, 32 | 1, fuzzReregister, 3, 32 | 2, fuzzRegister, 3, 1},
	{fuzzRegister, 0, 1, fuzzRegister, 1, 1, fuzzReady, 0, 1, fuzzReady, 1, 1, fuzzPoll, fuzzChangeInLoop, 1, fuzzPoll, fuzzRegister, 1, 2, fuzzPoll, fuzzChangeInLoop, 0},
	{fuzzWaker, 0, 0, fuzzWaker, 0, 1, fuzzPoll, fuzzWaker, 0, 1, fuzzWaker, 0, 2, fuzzPoll, fuzzWaker, 0, 0, fuzzWaker, 0, 1},
	{fuzzTimer, 0, 0, fuzzTimer, 0, 1, fuzzPoll, fuzzTimer, 0, 1, fuzzTimer, 0, 3, fuzzPoll, fuzzTimer, 1, 0, fuzzTimer, 1, 2, fuzzTimer, 0, 4},
	{fuzzMailbox, 0, fuzzMailbox, 1, fuzzMailbox, 1, fuzzPoll, fuzzMailbox, 2, fuzzPoll, fuzzMailbox, 2, fuzzPoll, fuzzMailbox, 3, fuzzPoll, fuzzMailbox, 4},
	{fuzzClone, 0, fuzzRegister, 0, 1, fuzzClone, 1, fuzzDeregister, 0, fuzzRoom, 0, fuzzRegister, 1, 1, fuzzRegister, 2, 1, fuzzReady, 1, 1, fuzzReady, 2, 1, fuzzPoll, fuzzPoll},
	{fuzzRegister, 0, 1, fuzzFail, 0, fuzzRegister, 1, 1, fuzzFail, 1, fuzzReregister, 0, 2, fuzzFail, 2, fuzzDeregister, 0, fuzzFail, 3, fuzzPoll, fuzzPoll},
	{fuzzRegister, 0, 1, fuzzReady, 0, 1, fuzzEarly, 2, 0, fuzzPoll, fuzzEarly, 1, 1, fuzzPoll, fuzzReregister, 0, 1, fuzzStale, 0, fuzzPoll},
	{fuzzRegister, 0, 1, fuzzReady, 0, 1, fuzzPoll, fuzzForget, 0, fuzzPoll, fuzzRegister, 0, 1, fuzzForget, 0, fuzzReregister, 0, 2, fuzzForget, 0, fuzzDeregister, 0},
}

// fuzzBytes is the rest of a program. At its end it gives zeros.
type fuzzBytes struct{ rest []byte }

func (b *fuzzBytes) next() (v byte) {
	if len(b.rest) > 0 {
		v, b.rest = b.rest[0], b.rest[1:]
	}
	return v
}

const fuzzSources = 4

// fuzzWorld is a Poll, and what a program knows of it.
type fuzzWorld struct {
	t      *testing.T
	input  *fuzzBytes
	poll   *epore.Poll
	fake   *backendtest.Fake // nil on a real queue
	events *epore.Events
	r      *epore.Registry // the one in use: the Poll's, or a clone
	dead   bool            // r is closed

	sources [fuzzSources]fuzzSource
	live    map[epore.Token]*fuzzRegistration
	tokens  epore.Token
	stale   []backend.Key

	wakers  [2]*epore.Waker
	timers  [2]*epore.Timer
	mailbox *epore.Mailbox[int]
	of      map[any]*fuzzRegistration // of those without a descriptor
	failing string                    // the method that fails next
}

type fuzzSource struct {
	here, there *fixture.End // nil on the Fake
	handle      backend.Handle
	ready       epore.Readiness // on the Fake
	reg         *fuzzRegistration
}

func (s *fuzzSource) source() epore.Source { return epore.FD(s.handle) }

// fuzzRegistration is what has a token.
type fuzzRegistration struct {
	token    epore.Token
	interest epore.Interest
	source   *fuzzSource // nil: one without a descriptor
	key      backend.Key // on the Fake
	shot     bool
	closed   bool // the source, without Deregister
	due      bool // of those without a descriptor: an event is to come
	level    bool // ... and comes for as long as that is so
}

var errFuzz = errors.New("ordered by the test")

func newFuzzWorld(t *testing.T, input *fuzzBytes) *fuzzWorld {
	w := &fuzzWorld{t: t, input: input, live: make(map[epore.Token]*fuzzRegistration), of: make(map[any]*fuzzRegistration)}
	mode := input.next()
	strategy := epore.WithStrategy(epore.Strategy(mode >> 1 & 1))
	var err error
	if mode&1 == 0 {
		w.fake = backendtest.NewFake()
		w.poll, err = epore.NewWith(w.fake, strategy)
	} else {
		w.poll, err = queuetest.Open(strategy)
		skipWithout(t, err)
	}
	w.must(err)
	w.r = w.poll.Registry()
	w.events = epore.NewEvents(4)
	for i := range w.sources {
		s := &w.sources[i]
		if w.fake != nil {
			s.handle = backend.Handle(1000 + i)
		} else {
			s.here, s.there = fixture.Pair(t)
			s.handle = s.here.Handle()
		}
	}
	return w
}

// step does one operation.
func (w *fuzzWorld) step() {
	switch op := w.input.next() % fuzzOperations; op {
	case fuzzRegister:
		w.register(w.source())
	case fuzzReregister:
		w.reregister(w.source())
	case fuzzDeregister:
		w.deregister(w.source())
	case fuzzReady:
		w.makeReady(w.source(), w.input.next())
	case fuzzPoll:
		w.doPoll(0)
	case fuzzChangeInLoop:
		w.changeInLoop(w.source())
	case fuzzWaker:
		w.useWaker(&w.wakers[w.input.next()%2], w.input.next())
	case fuzzTimer:
		w.useTimer(&w.timers[w.input.next()%2], w.input.next())
	case fuzzMailbox:
		w.useMailbox(w.input.next())
	case fuzzClone:
		w.useClone(w.input.next())
	case fuzzRoom:
		w.events = epore.NewEvents(int(w.input.next()%8) + 1)
	default:
		if w.fake != nil {
			w.disturb(op)
		}
	}
}

func (w *fuzzWorld) source() *fuzzSource { return &w.sources[w.input.next()%fuzzSources] }

func (w *fuzzWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// expect checks that err is want, or nil as want, and an *OpError.
func (w *fuzzWorld) expect(what string, err, want error) {
	w.t.Helper()
	if (err == nil) != (want == nil) || want != nil && !errors.Is(err, want) {
		w.t.Fatalf("%s: %v, want %v", what, err, want)
	}
	var op *epore.OpError
	if err != nil && (!errors.As(err, &op) || op.Error() == "") {
		w.t.Fatalf("%s: %T is no *OpError: %v", what, err, err)
	}
}

// failure returns the error that was ordered for method, which then fails.
func (w *fuzzWorld) failure(method string) error {
	if w.failing != method {
		return nil
	}
	w.failing = ""
	return errFuzz
}

// refusal is what an interest alone makes a change fail with.
func (w *fuzzWorld) refusal(in epore.Interest) error {
	switch {
	case in.Unknown() != 0, in&backend.Conditions == 0, in.Has(epore.Exclusive | epore.OneShot):
		return fs.ErrInvalid
	case in&^w.poll.Capabilities().Interests != 0:
		return errors.ErrUnsupported
	}
	return nil
}

func (w *fuzzWorld) newToken(reg fuzzRegistration) *fuzzRegistration {
	w.tokens++
	reg.token = w.tokens
	return &reg
}

func (w *fuzzWorld) register(s *fuzzSource) {
	in := epore.Interest(w.input.next())
	reg := w.newToken(fuzzRegistration{interest: in, source: s})
	err := w.r.Register(s.source(), reg.token, in)
	want := w.refusal(in)
	switch {
	case w.dead:
		want = epore.ErrClosed
	case want != nil:
	case in.Has(epore.Exclusive | epore.Priority): // the backend refuses it
		want = errors.ErrUnsupported
	default:
		if want = w.failure("Add"); want == nil && s.reg != nil && !s.reg.closed {
			want = fs.ErrExist
		}
	}
	w.expect("Register "+in.String(), err, want)
	if err == nil {
		w.drop(s)
		w.put(s, reg)
	}
}

func (w *fuzzWorld) reregister(s *fuzzSource) {
	in := epore.Interest(w.input.next())
	reg := w.newToken(fuzzRegistration{interest: in, source: s})
	err := w.r.Reregister(s.source(), reg.token, in)
	want := w.refusal(in)
	switch {
	case w.dead:
		want = epore.ErrClosed
	case want != nil:
	case s.reg == nil:
		want = fs.ErrNotExist
	case in.Has(epore.Exclusive | epore.Priority):
		want = errors.ErrUnsupported
	default:
		if want = w.failure("Modify"); want == nil && s.reg.closed {
			want = fs.ErrNotExist
			w.drop(s)
		}
	}
	w.expect("Reregister "+in.String(), err, want)
	if err == nil {
		w.drop(s)
		w.put(s, reg)
	}
}

func (w *fuzzWorld) deregister(s *fuzzSource) {
	err := w.r.Deregister(s.source())
	var want error
	switch {
	case w.dead:
		want = epore.ErrClosed
	case s.reg == nil:
		want = fs.ErrNotExist
	default:
		if want = w.failure("Delete"); want == nil {
			if s.reg.closed {
				want = fs.ErrNotExist
			}
			w.drop(s)
		}
	}
	w.expect("Deregister", err, want)
}

// put makes reg the registration of s.
func (w *fuzzWorld) put(s *fuzzSource, reg *fuzzRegistration) {
	s.reg = reg
	w.live[reg.token] = reg
	if w.fake != nil {
		reg.key, _ = w.fake.KeyOf(s.handle)
		w.stale = append(w.stale, reg.key) // it will be
	}
}

// drop ends the registration of s.
func (w *fuzzWorld) drop(s *fuzzSource) {
	if s.reg != nil {
		delete(w.live, s.reg.token)
		s.reg = nil
	}
}

func (w *fuzzWorld) makeReady(s *fuzzSource, how byte) {
	switch {
	case w.fake != nil:
		s.ready = epore.Readiness(how) & 0x3f
		w.fake.SetReady(s.handle, s.ready)
	case how&1 != 0:
		_, _ = s.there.TryWrite([]byte("x"))
	default:
		s.here.Drain()
	}
}

// doPoll polls, and checks what came.
func (w *fuzzWorld) doPoll(timeout time.Duration) (seen map[epore.Token]epore.Readiness) {
	err := w.poll.Poll(w.events, timeout)
	if err != nil { // events of other sources may have hidden that failure
		w.expect("Poll", err, w.failure("Wait"))
	}
	seen = make(map[epore.Token]epore.Readiness)
	for ev := range w.events.All() {
		reg := w.live[ev.Token]
		if reg == nil {
			w.t.Fatalf("%v: nothing live has that token", ev)
		}
		if _, twice := seen[ev.Token]; twice {
			w.t.Fatalf("%v: twice in a batch", ev)
		}
		seen[ev.Token] = ev.Ready
		w.check(ev, reg)
	}
	if n := w.events.Len(); n != len(seen) {
		w.t.Fatalf("Len is %d, and there are %d events", n, len(seen))
	}
	return seen
}

// check checks an event that has just come.
func (w *fuzzWorld) check(ev epore.Event, reg *fuzzRegistration) {
	const unasked = backend.ReadyError | backend.ReadyReadClosed | backend.ReadyWriteClosed
	if ev.String() == "" || ev.Ready == 0 {
		w.t.Fatalf("%v: empty", ev)
	}
	s := reg.source
	if s == nil {
		if !ev.Readable() || !reg.due {
			w.t.Fatalf("%v: nothing has happened to it", ev)
		}
		reg.due = reg.level
		return
	}
	if reg.closed || reg.shot {
		w.t.Fatalf("%v: closed %v, already shot %v", ev, reg.closed, reg.shot)
	}
	reg.shot = reg.interest.Has(epore.OneShot)
	if extra := ev.Ready &^ (epore.Readiness(reg.interest&backend.Conditions) | unasked); extra != 0 {
		w.t.Fatalf("%v: nobody asked for %v", ev, extra)
	}
	if w.fake == nil {
		return
	}
	told := s.ready.For(reg.interest)
	if reg.interest.Has(epore.Edge) && ev.Ready&^told != 0 || !reg.interest.Has(epore.Edge) && ev.Ready != told {
		w.t.Fatalf("%v: the source is %v", ev, s.ready)
	}
}

// changeInLoop goes through the last events again, and at the first one deregisters s: no
// event of it may follow.
func (w *fuzzWorld) changeInLoop(s *fuzzSource) {
	first := true
	for ev := range w.events.All() {
		reg := w.live[ev.Token]
		if reg == nil {
			w.t.Fatalf("%v: nothing live has that token", ev)
		}
		if first {
			w.deregister(s)
		}
		first = false
	}
}

// add enters what a constructor made, or checks why not.
func (w *fuzzWorld) add(what string, key any, token *fuzzRegistration, err error) bool {
	var want error
	if w.dead {
		want = epore.ErrClosed
	}
	w.expect(what, err, want)
	if err != nil {
		return false
	}
	w.live[token.token] = token
	w.of[key] = token
	return true
}

// remove ends the registration of something without a descriptor.
func (w *fuzzWorld) remove(key any) {
	delete(w.live, w.of[key].token)
	delete(w.of, key)
}

func (w *fuzzWorld) useWaker(at **epore.Waker, what byte) {
	waker := *at
	switch {
	case waker == nil:
		reg := w.newToken(fuzzRegistration{})
		made, err := epore.NewWaker(w.r, reg.token)
		if w.add("NewWaker", made, reg, err) {
			*at = made
		}
	case what%3 == 2:
		w.expect("Waker.Close", waker.Close(), nil)
		w.remove(waker)
		w.expect("Wake after Close", waker.Wake(), epore.ErrClosed)
		*at = nil
	default:
		w.expect("Wake", waker.Wake(), nil)
		w.of[waker].due = true
	}
}

func (w *fuzzWorld) useTimer(at **epore.Timer, what byte) {
	timer := *at
	if timer == nil {
		reg := w.newToken(fuzzRegistration{})
		made, err := epore.NewTimer(w.r, reg.token)
		if w.add("NewTimer", made, reg, err) {
			*at = made
		}
		return
	}
	switch what % 5 {
	case 0, 1:
		w.expect("Reset", timer.Reset(0), nil)
		w.of[timer].due = true
	case 2:
		w.expect("Reset", timer.Reset(time.Hour), nil)
		w.of[timer].due = false
	case 3:
		if stopped := timer.Stop(); w.of[timer].due && !stopped {
			w.t.Fatal("Stop: an event was to come, and it says no")
		}
		w.of[timer].due = false
	case 4:
		w.expect("Timer.Close", timer.Close(), nil)
		w.remove(timer)
		w.expect("Reset after Close", timer.Reset(0), epore.ErrClosed)
		*at = nil
	}
}

func (w *fuzzWorld) useMailbox(what byte) {
	m := w.mailbox
	if m == nil {
		reg := w.newToken(fuzzRegistration{level: true})
		made, err := epore.NewBoundedMailbox[int](w.r, reg.token, 2)
		if w.add("NewBoundedMailbox", made, reg, err) {
			w.mailbox = made
		}
		return
	}
	reg := w.of[m]
	switch what % 4 {
	case 0, 1:
		n := m.Len()
		err := m.Send(n)
		var want error
		if n == 2 {
			want = epore.ErrFull
		}
		w.expect("Send", err, want)
	case 2:
		n := m.Len()
		if _, ok := m.Receive(); ok != (n > 0) {
			w.t.Fatalf("Receive of %d: %v", n, ok)
		}
	case 3:
		w.expect("Mailbox.Close", m.Close(), nil)
		w.remove(m)
		w.expect("Send after Close", m.Send(1), epore.ErrClosed)
		w.mailbox = nil
		return
	}
	reg.due = m.Len() > 0
}

func (w *fuzzWorld) useClone(what byte) {
	lent := w.poll.Registry()
	w.expect("Close of the lent Registry", lent.Close(), fs.ErrInvalid)
	if what%3 != 1 || w.r == lent {
		clone, err := lent.TryClone()
		w.must(err)
		w.r, w.dead = clone, false
		return
	}
	w.must(w.r.Close())
	w.dead = true
	_, err := w.r.TryClone()
	w.expect("TryClone", err, epore.ErrClosed)
}

// disturb makes the Fake do what kernels do rarely.
func (w *fuzzWorld) disturb(op byte) {
	switch op {
	case fuzzFail:
		if w.failing == "" { // one at a time
			w.failing = [...]string{"Add", "Modify", "Delete", "Wait"}[w.input.next()%4]
			w.fake.FailNext(w.failing, errFuzz)
		}
	case fuzzEarly:
		n := int(w.input.next() % 4)
		w.fake.ReturnEarly(n, [...]error{nil, syscall.EINTR}[w.input.next()%2])
	case fuzzStale:
		if len(w.stale) == 0 {
			return
		}
		key := w.stale[int(w.input.next())%len(w.stale)]
		for i := range w.sources {
			if reg := w.sources[i].reg; reg != nil && reg.key == key {
				return
			}
		}
		w.fake.Inject(backend.Event{Key: key, Ready: backend.ReadyReadable})
	case fuzzForget:
		s := w.source()
		if s.reg != nil {
			s.reg.closed = true
		}
		s.ready = 0
		w.fake.CloseHandle(s.handle)
	}
}

// drain checks that no event is missing: with everything ready, each registration that can
// have one has it within a few Polls.
func (w *fuzzWorld) drain() {
	if w.dead {
		w.r, w.dead = w.poll.Registry(), false
	}
	for range 8 { // what was ordered of the Fake
		w.doPoll(0)
	}
	missing := make(map[epore.Token]epore.Readiness)
	for i := range w.sources {
		s := &w.sources[i]
		if w.fake != nil {
			w.makeReady(s, 0)
			w.makeReady(s, 0x3f)
		} else {
			s.here.Drain()
			s.there.Write("x")
		}
		if reg := s.reg; reg != nil && !reg.shot && !reg.closed && (w.fake != nil || reg.interest.Has(epore.Readable)) {
			missing[reg.token] = backend.ReadyReadable
			if w.fake != nil {
				missing[reg.token] = epore.Readiness(reg.interest & backend.Conditions)
			}
		}
	}
	for key, reg := range w.of {
		switch of := key.(type) {
		case *epore.Waker:
			w.must(of.Wake())
			reg.due = true
		case *epore.Timer:
			w.must(of.Reset(0))
			reg.due = true
		}
		if reg.due {
			missing[reg.token] = backend.ReadyReadable
		}
	}
	// A program of 512 bytes orders up to 512 early returns, and in a batch of one the queue
	// has every other Poll.
	for range 2048 {
		if len(missing) == 0 {
			return
		}
		came := w.doPoll(fixture.Soon)
		if len(came) == 0 {
			break
		}
		for token, ready := range came {
			if missing[token] &^= ready; missing[token] == 0 {
				delete(missing, token)
			}
		}
	}
	w.t.Fatalf("no event came of %v", missing)
}

// close closes the Poll, after which every call says so.
func (w *fuzzWorld) close() {
	w.must(w.poll.Close())
	w.must(w.poll.Close())
	for _, err := range []error{
		w.poll.Poll(w.events, 0),
		w.poll.Registry().Register(epore.FD(1), 1, epore.Readable),
		w.poll.Registry().Reregister(epore.FD(1), 1, epore.Readable),
		w.poll.Registry().Deregister(epore.FD(1)),
	} {
		w.expect("after Close", err, net.ErrClosed)
		w.expect("after Close", err, epore.ErrClosed)
	}
	for key := range w.of {
		switch of := key.(type) {
		case *epore.Waker:
			w.expect("Wake after Poll.Close", of.Wake(), epore.ErrClosed)
		case *epore.Timer:
			w.expect("Reset after Poll.Close", of.Reset(0), epore.ErrClosed)
		case *epore.Mailbox[int]:
			w.expect("Send after Poll.Close", of.Send(1), epore.ErrClosed)
		}
	}
	if w.fake != nil {
		if v := w.fake.Violations(); len(v) > 0 {
			w.t.Fatalf("the core broke promises to its backend: %q", v)
		}
	}
}
