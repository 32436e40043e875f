//go:build unix || windows

package epore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

// A model of the contract: what is known of a file, and what a queue must and may
// say of it. The test that uses it is in differential_test.go.

// kind is a sort of file, and what can be done with this end of it.
type kind struct {
	name          string
	of            func(testing.TB) (here, there *fixture.End)
	reads, writes bool
	halves        bool // it can be closed for writing only
	fills         bool // at a known moment there is no room to write
	travels       bool // what is sent takes its time
	most          int  // what can be written with room to spare
}

// promptTCP sends each byte at once.
func promptTCP(t testing.TB) (here, there *fixture.End) {
	here, there = fixture.TCPPair(t)
	here.NoDelay()
	there.NoDelay()
	return here, there
}

// file is one end of something, and all that has been done to it.
type file struct {
	*kind
	here, there *fixture.End

	hinted bool // the queue that it is for tells all that Linux tells
	unread int  // bytes, or datagrams
	sent   int  // that the peer has not read
	full   bool // there is no room to write
	vague  bool // nobody knows whether there is
	shut   bool // this end writes no more
	eof    bool // the peer writes no more
	gone   bool // the peer is closed
	hup    bool // both directions are down
	broken bool // an error is pending
}

// close leaves nothing behind, not even a port that must be waited for.
func (f *file) close() {
	f.there.Close()
	if f.travels {
		f.here.Reset()
	}
	f.here.Close()
}

// must and may are the bits that a queue has to report, and is allowed to.
func (f *file) must(in epore.Interest) (must, may epore.Readiness) {
	if in.Has(epore.Readable) && (f.unread > 0 || f.eof || f.hup || f.broken) {
		must |= readable
	}
	if in.Has(epore.Writable) {
		if !f.full && !f.vague || f.hup || f.broken {
			must |= writable
		}
		if f.vague {
			may |= writable
		}
	}
	var told epore.Readiness
	if f.broken {
		told |= failed
	}
	if f.hup {
		told |= readClosed | writeClosed
	}
	if f.shut || f.broken {
		may |= writeClosed // a kqueue tells
	}
	if f.eof {
		may |= readClosed
		if in.Has(epore.Readable) {
			told |= readClosed
		}
	}
	may |= must | told
	if f.hinted {
		must |= told
	}
	return must, may
}

const (
	readable = epore.Readiness(1) << iota
	writable
	_
	failed
	readClosed
	writeClosed
)

const (
	conditions = readable | writable
	hints      = failed | readClosed | writeClosed
)

// registration is what the model knows of one.
type registration struct {
	token    epore.Token
	interest epore.Interest
	// Of edges: the conditions that must be reported when they hold, because the
	// registration is new, or the operation has answered "would block".
	armed epore.Readiness
	// changed are the bits that something may have happened to since they were
	// reported; shot says that a one-shot registration has had its event.
	changed epore.Readiness
	shot    bool
	missed  int // how many full batches were without it
	// lags says that an edge tells what happened, which may be over: happened is all
	// that was true since the last event. So it is with io_uring.
	lags     bool
	happened epore.Readiness
	// polled says that every event tells what was so when the kernel looked, once: some
	// of it may be over, and some of what is so now may come with the next. So it is
	// with iocp.
	polled bool
}

// modelled is a source of a world: a file under a number, and its registration.
type modelled struct {
	*file
	reg *registration // nil: not registered
}

// due is what a Poll has to report of s, and what it may.
func (s *modelled) due() (must, may epore.Readiness) {
	reg := s.reg
	if reg == nil || reg.shot {
		return 0, 0
	}
	must, may = s.file.must(reg.interest)
	if reg.interest.Has(epore.Edge) {
		if must&reg.armed == 0 {
			must = 0
		} else {
			must &= reg.armed
		}
		changed := reg.changed
		if s.travels && s.shut { // that arrives at the peer, and news of it here
			changed = conditions | hints
		}
		// News of a hint comes with all that it concerns, see M6.
		if changed&hints&may == 0 {
			if may &^= conditions &^ changed; may&conditions == 0 {
				may = 0
			}
		}
		if reg.lags && reg.changed != 0 {
			may |= reg.happened
		}
	}
	if reg.polled {
		may |= reg.happened
	}
	return must, may
}

// world is a queue, sources of its own, and what is expected of them.
type world struct {
	name    string
	t       *testing.T
	p       *epore.Poll
	sources []*modelled
	events  map[int]*epore.Events // by capacity
	kept    []*fixture.End        // duplicates of what was closed: its registration lives on
	waker   *epore.Waker
	woken   int // 0: not; else how many Polls ago, plus 1
	box     *epore.Mailbox[int]
	inside  int // how many values are in the box
	boxLate int // how many Polls are over without its event
	timer   *epore.Timer
	setFor  time.Duration // what for, or unset
	tmLate  int

	// The batch in hand: what All must yield now, and what it may, of closed ones.
	hand  *epore.Events
	batch map[epore.Token]epore.Readiness
	loose map[epore.Token]epore.Readiness
}

// The tokens that are no source's.
const (
	wakerToken = math.MaxUint64 - iota
	boxToken
	timerToken
)

// unset is the duration of a timer that is not set.
const unset time.Duration = -1

func newWorld(t *testing.T, name string, p *epore.Poll, kinds []*kind) *world {
	w := &world{
		name: name, t: t, p: p,
		events: make(map[int]*epore.Events),
		batch:  make(map[epore.Token]epore.Readiness),
		loose:  make(map[epore.Token]epore.Readiness),
	}
	for _, k := range kinds {
		w.sources = append(w.sources, &modelled{file: w.newFile(k)})
	}
	w.waker, w.box, w.timer = newWaker(t, p, wakerToken), newMailbox[int](t, p, boxToken), newTimer(t, p, timerToken)
	w.setFor = unset
	return w
}

// newFile opens a file. Of its hints some may be missing, but not where epoll has
// them, and those who speak as it does.
func (w *world) newFile(k *kind) *file {
	here, there := k.of(w.t)
	hinted := runtime.GOOS == "linux" && w.p.Backend() != "kqueue"
	return &file{kind: k, here: here, there: there, hinted: hinted}
}

func (w *world) close() error {
	err := w.p.Close()
	for _, s := range w.sources {
		s.close()
	}
	for _, e := range w.kept {
		e.Close()
	}
	return err
}

// mismatch is a difference between a queue and the model.
func (w *world) mismatch(format string, args ...any) error {
	return fmt.Errorf("%s: %s", w.name, fmt.Sprintf(format, args...))
}

// expect compares what an operation answered with what it has to.
func (w *world) expect(what string, err, want error) error {
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		return w.mismatch("%s: %v, should be %v", what, err, want)
	}
	return nil
}

// supported says what a registration with in must answer if nothing else is wrong.
func (w *world) supported(in epore.Interest) error {
	if in&^w.p.Capabilities().Interests != 0 {
		return errors.ErrUnsupported
	}
	return nil
}

func (w *world) register(s *modelled, token epore.Token, in epore.Interest) error {
	want := w.supported(in)
	if want == nil && s.reg != nil {
		want = fs.ErrExist
	}
	err := w.expect("register", w.p.Registry().Register(fd(s.here), token, in), want)
	switch {
	case want == nil:
		w.arm(s, token, in)
	case want == fs.ErrExist && w.p.Backend() == "kqueue":
		s.touched() // asking whether it is there may have an edge repeated
	}
	return err
}

func (w *world) reregister(s *modelled, token epore.Token, in epore.Interest) error {
	want := w.supported(in)
	if want == nil && s.reg == nil {
		want = fs.ErrNotExist
	}
	err := w.expect("reregister", w.p.Registry().Reregister(fd(s.here), token, in), want)
	if want == nil {
		delete(w.batch, s.reg.token)
		w.arm(s, token, in)
	}
	return err
}

func (w *world) arm(s *modelled, token epore.Token, in epore.Interest) {
	s.reg = &registration{
		token: token, interest: in, armed: conditions, changed: conditions | hints,
		lags:   w.p.Backend() == "io_uring",
		polled: w.p.Backend() == "iocp",
	}
	s.happens()
}

func (w *world) deregister(s *modelled) error {
	var want error
	if s.reg == nil {
		want = fs.ErrNotExist
	}
	err := w.expect("deregister", w.p.Registry().Deregister(fd(s.here)), want)
	w.forget(s)
	return err
}

func (w *world) forget(s *modelled) {
	if s.reg != nil {
		delete(w.batch, s.reg.token)
		s.reg = nil
	}
}

// replace closes the file of s, and opens another under the same number. A duplicate
// may be left, and then the file and what epoll has of it live on.
func (w *world) replace(s *modelled, k *kind, deregisterFirst, keep bool) error {
	if deregisterFirst && s.reg != nil {
		if err := w.deregister(s); err != nil {
			return err
		}
	}
	number := s.here.FD
	f := w.newFile(k)
	// An iocp takes the number to be registered still.
	keep = keep && len(w.kept) < 2 && w.p.Backend() != "iocp"
	if keep {
		w.kept = append(w.kept, s.here.Dup())
	}
	s.file.close()
	f.here = f.here.TryMoveTo(number)
	s.file = f
	if s.reg == nil {
		return nil
	}
	// Its last event may still be in hand: nobody has told the Registry.
	if bits, ok := w.batch[s.reg.token]; ok {
		w.loose[s.reg.token] = bits
	}
	w.forget(s)
	// io_uring watches numbers, and epoll what lives on, until the Registry is told.
	if keep || w.p.Backend() == "io_uring" {
		return w.deregister(s)
	}
	return nil
}

// What is done to a file. Each says whether it can be.

func (s *modelled) touched() {
	if s.reg != nil {
		s.reg.changed = conditions | hints
		s.happens()
	}
}

// happens notes what is true now.
func (s *modelled) happens() {
	_, may := s.file.must(s.reg.interest)
	s.reg.happened |= may
}

func (s *modelled) blocked(condition epore.Readiness) {
	if s.reg != nil {
		s.reg.armed |= condition
	}
}

func (s *modelled) peerWrites() bool {
	if !s.reads || s.eof || s.gone || s.unread > 4 || s.travels && s.unread > 0 {
		return false
	}
	s.there.Write("x")
	s.unread++
	s.arrived()
	return true
}

func (s *modelled) peerReads() bool {
	if !s.writes || s.gone {
		return false
	}
	for got, more := 0, true; more; more = s.travels && got < s.sent {
		if s.travels && s.sent > 0 {
			s.there.AwaitReadable()
		}
		n, _ := s.there.Drain()
		got += n
	}
	s.sent, s.full, s.vague = 0, false, false
	s.touched()
	return true
}

func (s *modelled) peerHalfCloses() bool {
	if !s.halves || s.eof || s.travels && s.unread > 0 {
		return false
	}
	s.there.ShutdownWrite()
	s.eof = true
	s.hup = s.shut
	s.arrived()
	return true
}

func (s *modelled) peerCloses() bool {
	if s.gone || s.travels && s.unread > 0 {
		return false
	}
	if s.writes {
		s.peerReads() // or closing would be a reset
	}
	s.there.Close()
	s.gone = true
	switch {
	case !s.reads:
		s.broken = true // a pipe that nobody reads
	case s.halves:
		s.eof = true
		s.hup = !s.travels || s.shut
	case !s.writes:
		s.eof, s.hup = true, true
	default:
		s.vague = true // a datagram socket hears nothing of it
	}
	s.arrived()
	return true
}

func (s *modelled) peerResets() bool {
	if !s.travels || s.gone || s.unread > 0 || s.eof && s.shut { // then there is nothing left to reset
		return false
	}
	s.there.Reset()
	s.gone, s.eof, s.hup, s.broken = true, true, true, true
	s.arrived()
	return true
}

// arrived waits until news of the peer is here.
func (s *modelled) arrived() {
	if s.travels {
		s.here.AwaitReadable()
	}
	s.touched()
}

func (s *modelled) read() bool {
	return s.reads && s.readOne() != 0
}

// readOne returns what a read of one byte or datagram did: 1, or how it failed.
func (s *modelled) readOne() int {
	n, err := s.here.TryRead(make([]byte, 1))
	s.touched()
	switch {
	case s.unread > 0:
		assume(n == 1, s, n, err)
		s.unread--
		return 1
	case s.broken && err != nil:
		s.broken = false
	case s.eof:
		assume(n == 0 && err == nil, s, n, err)
	default:
		assume(fixture.WouldBlock(err), s, n, err)
		s.blocked(readable)
	}
	return -1
}

// assume holds the model of a file against the file. It panics, so that rapid looks
// for the shortest way there.
func assume(ok bool, s *modelled, n int, err error) {
	if !ok {
		panic(fmt.Sprintf("the model is wrong about %s: a read gave %d, %v; %+v", s.here, n, err, *s.file))
	}
}

func (s *modelled) drain() bool {
	if !s.reads {
		return false
	}
	for s.readOne() > 0 {
	}
	return true
}

func (s *modelled) write() bool {
	if !s.writes || s.shut || s.gone {
		return false
	}
	_, err := s.here.TryWrite([]byte("x"))
	if err == nil {
		s.sent++
	}
	s.vague = s.vague || s.sent > s.most
	if fixture.WouldBlock(err) {
		s.full, s.vague = true, false
		s.blocked(writable)
	}
	s.touched()
	return true
}

func (s *modelled) fill() bool {
	if !s.fills || s.shut || s.gone {
		return false
	}
	s.here.Fill()
	s.full, s.vague = true, false
	s.blocked(writable)
	s.touched()
	return true
}

func (s *modelled) shutdown() bool {
	if !s.halves || s.shut || s.gone {
		return false
	}
	s.here.ShutdownWrite()
	s.shut = true
	s.hup = s.eof
	s.touched()
	return true
}

// wake wakes the world's Poll.
func (w *world) wake() error {
	if w.woken == 0 {
		w.woken = 1
	}
	return w.expect("wake", w.waker.Wake(), nil)
}

// send sends the mailbox a value.
func (w *world) send() error {
	w.inside++
	return w.expect("send", w.box.Send(w.inside), nil)
}

// receive takes at most n values out of the mailbox.
func (w *world) receive(n int) error {
	got := 0
	for range w.box.All() {
		if got++; got == n {
			break
		}
	}
	if want := min(n, w.inside); got != want {
		return w.mismatch("%d values received, should be %d", got, want)
	}
	w.inside -= got
	return nil
}

// setTimer sets the timer to d, or stops it.
func (w *world) setTimer(d time.Duration) error {
	delete(w.batch, timerToken)
	was := w.setFor != unset
	w.setFor, w.tmLate = d, 0
	if d != unset {
		return w.expect("Reset", w.timer.Reset(d), nil)
	}
	if stopped := w.timer.Stop(); stopped != was {
		return w.mismatch("Stop says %v", stopped)
	}
	return nil
}

// poll polls, and compares what comes with what must and may.
func (w *world) poll(capacity int, patient bool) error {
	events := w.events[capacity]
	if events == nil {
		events = epore.NewEvents(capacity)
		w.events[capacity] = events
	}
	timeout := time.Duration(0)
	if patient {
		timeout = 50 * time.Microsecond
		if w.woken > 0 || w.inside > 0 || w.setFor == 0 {
			timeout = epore.Forever
		}
		for _, s := range w.sources {
			if must, _ := s.due(); must != 0 {
				timeout = epore.Forever
			}
		}
	}
	err := w.pollFor(events, timeout)
	for begin := time.Now(); err == errLate && time.Since(begin) < fixture.Soon; {
		runtime.Gosched()
		err = w.pollFor(events, 0)
	}
	return err
}

// errLate says that an event is missing whose cause came through the network: the
// data is there a little before those who wait for it are told.
var errLate = errors.New("an event of a TCP connection is missing, or a part of it")

func (w *world) pollFor(events *epore.Events, timeout time.Duration) error {
	if err := w.p.Poll(events, timeout); err != nil {
		return w.mismatch("Poll: %v", err)
	}
	capacity := events.Cap()
	if events.Len() > capacity {
		return w.mismatch("%d events in a room of %d", events.Len(), capacity)
	}
	w.hand = events
	clear(w.loose)
	clear(w.batch)
	for ev := range events.All() {
		if twice := w.batch[ev.Token] & ev.Ready & conditions; twice != 0 {
			return w.mismatch("token %d: %v twice in a batch", ev.Token, twice)
		}
		w.batch[ev.Token] |= ev.Ready
	}
	if len(w.batch) == 0 && events.Len() > 0 {
		return w.mismatch("%d events, and none of them current", events.Len())
	}
	// What is kept alive takes room in the kernel's batch.
	return w.compare(events.Len() == capacity || len(w.kept) > 0)
}

// compare looks at what has come. What must come may be missing if there was no
// more room, but not for ever.
func (w *world) compare(noRoom bool) error {
	known, late := 0, false
	if _, ok := w.batch[wakerToken]; ok {
		known++
		if w.woken == 0 {
			return w.mismatch("an event of a waker that nobody woke")
		}
		w.woken = 0
	} else if w.woken > 0 {
		if w.woken++; !noRoom || w.woken > 9+len(w.kept) {
			return w.mismatch("no event of the waker, at the %d. Poll", w.woken-1)
		}
	}
	if _, ok := w.batch[boxToken]; ok {
		known++
		if w.inside == 0 {
			return w.mismatch("an event of a mailbox that is empty")
		}
		w.boxLate = 0
	} else if w.inside > 0 {
		if w.boxLate++; !noRoom || w.boxLate > 8+len(w.kept) {
			return w.mismatch("no event of the mailbox, at the %d. Poll", w.boxLate)
		}
	}
	if _, ok := w.batch[timerToken]; ok {
		known++
		if w.setFor != 0 {
			return w.mismatch("an event of a timer that is not due")
		}
		w.setFor, w.tmLate = unset, 0
	} else if w.setFor == 0 {
		if w.tmLate++; !noRoom || w.tmLate > 4+len(w.kept) {
			return w.mismatch("no event of the timer, at the %d. Poll", w.tmLate)
		}
	}
	for i, s := range w.sources {
		if s.reg == nil {
			continue
		}
		got, came := w.batch[s.reg.token]
		must, may := s.due()
		if must == 0 {
			s.reg.missed = 0
		}
		if !came {
			if must != 0 && !noRoom && (s.travels || s.reg.polled) {
				late = true
				continue
			}
			if s.reg.missed++; must != 0 && (!noRoom || s.reg.missed > 2*(len(w.sources)+1+len(w.kept))) {
				return w.mismatch("source %d (%s), token %d, %v: nothing came, and %v must", i, s.here, s.reg.token, s.reg.interest, must)
			}
			continue
		}
		known++
		s.reg.missed = 0
		oneShot := s.reg.interest.Has(epore.OneShot)
		switch {
		case got&^may != 0:
			return w.mismatch("source %d (%s), token %d, %v: %v came, and only %v may", i, s.here, s.reg.token, s.reg.interest, got, may)
		case !oneShot && !noRoom && must&^got != 0 && s.reg.polled:
			late = true
		case !oneShot && !noRoom && must&^got != 0: // one-shot: any of what may come
			return w.mismatch("source %d (%s), token %d, %v: %v came, and %v must", i, s.here, s.reg.token, s.reg.interest, got, must)
		}
		s.reg.shot = oneShot
		s.reg.armed &^= got
		s.reg.changed &^= got
		s.reg.happened = 0
		s.happens()
	}
	if known != len(w.batch) {
		return w.mismatch("tokens of nothing registered: %v", w.batch)
	}
	if late {
		return errLate
	}
	return nil
}

// inHand compares what is left of the batch in hand with what should be.
func (w *world) inHand() error {
	if w.hand == nil {
		return nil
	}
	left := make(map[epore.Token]epore.Readiness)
	for ev := range w.hand.All() {
		left[ev.Token] |= ev.Ready
	}
	for token, bits := range w.batch {
		if left[token] != bits {
			return w.mismatch("in hand, token %d: %v, was %v", token, left[token], bits)
		}
		delete(left, token)
	}
	for token, bits := range left {
		if w.loose[token] != bits {
			return w.mismatch("in hand, token %d: %v, which is not registered any more", token, bits)
		}
	}
	return nil
}
