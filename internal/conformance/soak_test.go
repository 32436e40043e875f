//go:build unix || windows

package conformance_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
)

// TestSoak runs random operations on one Poll from many goroutines, and keeps a ledger of
// every byte, wake, value and timer. The ledger must balance, and no event may break the
// contract. A short run takes a moment for each queue; with EPORE_LONG=10m, say, it takes
// that long, and the log has the figures.
// contract: P2, P5, P6, R1, R3, R4, R6, R7, M1, M2, M3, M7, S1, S2, S3
func TestSoak(t *testing.T) {
	queues := queuetest.All()
	each := backendtest.Time(time.Duration(len(queues))*200*time.Millisecond) / time.Duration(len(queues))
	for _, queue := range queues {
		t.Run(queue.Name, func(t *testing.T) {
			var sum figures
			begin := time.Now()
			rounds := 0
			for round := uint64(0); round < 2 || time.Since(begin) < each; round++ {
				sum.add(soakRound(t, queue, round, min(each/2, 3*time.Second)))
				rounds++
				if t.Failed() {
					break
				}
			}
			t.Logf("reached %d rounds in %v: %v", rounds, time.Since(begin).Round(time.Millisecond), &sum)
		})
	}
}

// figures are what a soak has counted.
type figures struct {
	events, polls, changes, bytes, rings, values, expired int64
	loose, spurious                                       int64 // allowed
	lost, stale, doubled, early, wrong                    int64 // not allowed
}

func (f *figures) add(g *figures) {
	f.events += g.events
	f.polls += g.polls
	f.changes += g.changes
	f.bytes += g.bytes
	f.rings += g.rings
	f.values += g.values
	f.expired += g.expired
	f.loose += g.loose
	f.spurious += g.spurious
	f.lost += g.lost
	f.stale += g.stale
	f.doubled += g.doubled
	f.early += g.early
	f.wrong += g.wrong
}

func (f *figures) String() string {
	return fmt.Sprintf("%d events in %d Polls, %d changes, %d bytes, %d wakes, %d values, %d timers; "+
		"%d lost, %d stale, %d doubled, %d early, %d wrong; %d spurious, %d of closed descriptors",
		f.events, f.polls, f.changes, f.bytes, f.rings, f.values, f.expired,
		f.lost, f.stale, f.doubled, f.early, f.wrong, f.spurious, f.loose)
}

// A token is the kind of its source, the number of the source, and the number of its
// registration.
const (
	ofLane = iota
	ofWaker
	ofBox
	ofTimer
)

func soakToken(kind, source int, seq uint32) epore.Token {
	return epore.Token(kind)<<60 | epore.Token(source)<<32 | epore.Token(seq)
}

// soak is one round: a Poll, its sources, and the ledger.
type soak struct {
	t     *testing.T
	name  string
	p     *epore.Poll
	r     *epore.Registry
	modes []epore.Interest

	lanes  []*lane
	wakers []*soakWaker
	boxes  []*soakBox
	timers []*soakTimer

	// deaths counts the registrations that have ended. An event that is delivered is
	// stale if its registration had ended when the loop asked for it: asked is the count
	// at that time.
	deaths atomic.Int64
	asked  int64

	// loose has, by descriptor number, the registrations whose descriptor was closed
	// without Deregister. They end for certain when the number is registered again.
	looseMu sync.Mutex
	loose   map[int]*record

	random *rand.Rand // of the loop
	over   atomic.Bool
	n      figures // of the loop, except where it says atomic
	ops    atomic.Int64
	faults atomic.Int64
}

// fault reports a broken promise: the first ones in full.
func (s *soak) fault(count *int64, format string, args ...any) {
	atomic.AddInt64(count, 1)
	if s.faults.Add(1) <= 10 {
		s.t.Errorf("%s: %s", s.name, fmt.Sprintf(format, args...))
	}
}

func soakRound(t *testing.T, queue queuetest.Queue, round uint64, took time.Duration) *figures {
	strategy := epore.Strategy(round % 2)
	p, err := epore.NewWith(queue.New(), epore.WithStrategy(strategy))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	seed := uint64(time.Now().UnixNano())
	defer backendtest.Watchdog(t, fmt.Sprintf("a soak ends (seed %d, %v)", seed, strategy))()
	s := &soak{
		t: t, p: p, r: p.Registry(),
		name:   fmt.Sprintf("%s, %v", queue.Name, strategy),
		loose:  make(map[int]*record),
		random: rand.New(rand.NewPCG(seed, 0)),
	}
	for _, mode := range []epore.Interest{0, epore.Edge, epore.OneShot, epore.Edge | epore.OneShot} {
		if p.Capabilities().Interests.Has(mode) {
			s.modes = append(s.modes, mode)
		}
	}
	sizes := []int{8, 64, 400, 2000}
	if took < time.Second {
		sizes = sizes[:3]
	}
	lanes := fixture.Affordable(t, sizes[s.random.IntN(len(sizes))])
	for i := range lanes {
		l := &lane{s: s, index: i, settled: make(chan struct{}, 1)}
		require.NoError(t, l.open(s.random))
		s.lanes = append(s.lanes, l)
	}
	for i := range 8 {
		w, err := epore.NewWaker(s.r, soakToken(ofWaker, i, 0))
		require.NoError(t, err)
		s.wakers = append(s.wakers, &soakWaker{Waker: w})
		b, err := epore.NewMailbox[int64](s.r, soakToken(ofBox, i, 0))
		require.NoError(t, err)
		s.boxes = append(s.boxes, &soakBox{Mailbox: b})
		tm, err := epore.NewTimer(s.r, soakToken(ofTimer, i, 0))
		require.NoError(t, err)
		s.timers = append(s.timers, &soakTimer{s: s, Timer: tm})
	}

	var loop, changers sync.WaitGroup
	loop.Go(s.loop)
	until := time.Now().Add(took)
	for g := range 8 {
		changers.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(g)+1))
			for time.Now().Before(until) && s.faults.Load() == 0 {
				for range 32 {
					s.change(random)
				}
			}
		})
	}
	changers.Wait()
	s.balance(rand.New(rand.NewPCG(seed, 100)))
	s.over.Store(true)
	require.NoError(t, s.wakers[0].Wake())
	loop.Wait()
	require.NoError(t, p.Close())
	for _, l := range s.lanes {
		l.here.Close()
		l.closePeer()
	}
	s.n.changes = s.ops.Load()
	if s.n.lost+s.n.stale+s.n.doubled+s.n.early+s.n.wrong > 0 {
		t.Errorf("seed %d, %v, %d lanes: %v", seed, strategy, lanes, &s.n)
	}
	return &s.n
}

// loop is the loop of the program.
func (s *soak) loop() {
	runtime.LockOSThread() // some queues belong to one thread
	defer runtime.UnlockOSThread()
	var buffers []*epore.Events
	for _, capacity := range []int{1, 2, 7, 64, 1000, 4096} {
		buffers = append(buffers, epore.NewEvents(capacity))
	}
	for batch := int64(1); !s.over.Load(); batch++ {
		events := buffers[s.random.IntN(len(buffers))]
		timeout := epore.Forever
		switch s.random.IntN(8) {
		case 0, 1, 2:
			timeout = 0
		case 3:
			timeout = time.Duration(s.random.IntN(1_000_000))
		case 4:
			timeout = 3 * time.Millisecond
		}
		s.asked = s.deaths.Load()
		begin := time.Now()
		if err := s.p.Poll(events, timeout); err != nil {
			s.t.Errorf("Poll: %v", err)
			return
		}
		s.n.polls++
		if took := time.Since(begin); events.Len() == 0 && (timeout < 0 || took < timeout) {
			s.fault(&s.n.early, "a Poll of %v returned without events after %v", timeout, took)
		}
		for ev := range events.All() {
			s.n.events++
			s.handle(ev, batch)
			s.asked = s.deaths.Load()
		}
	}
}

func (s *soak) handle(ev epore.Event, batch int64) {
	source, seq := int(ev.Token>>32)&0xfffffff, uint32(ev.Token)
	switch ev.Token >> 60 {
	case ofWaker:
		w := s.wakers[source]
		w.seen.Store(w.rung.Load())
		s.n.rings++
	case ofBox:
		s.boxes[source].drain(s)
	case ofTimer:
		s.timers[source].fire(s)
	default:
		s.lanes[source].handle(ev, seq, batch)
	}
	if s.random.IntN(256) == 0 { // the batch has events of other lanes, too
		if l := s.lanes[s.random.IntN(len(s.lanes))]; l.mu.TryLock() {
			if !l.settling {
				l.replaceRegistration(s.random)
			}
			l.mu.Unlock()
		}
	}
}

// change does one random operation. It runs on several goroutines.
func (s *soak) change(random *rand.Rand) {
	s.ops.Add(1)
	switch n := random.IntN(100); {
	case n < 2:
		s.wakers[random.IntN(len(s.wakers))].ring(s)
	case n < 4:
		s.boxes[random.IntN(len(s.boxes))].send(s)
	case n < 6:
		s.timers[random.IntN(len(s.timers))].change(random)
	default:
		l := s.lanes[random.IntN(len(s.lanes))]
		l.mu.Lock()
		if l.settling {
			l.mu.Unlock()
			return
		}
		if n == 99 {
			l.settle(random) // and unlocks
			return
		}
		l.change(n, random)
		l.mu.Unlock()
	}
}

// balance closes the ledger: what was sent arrives, and what was set comes.
func (s *soak) balance(random *rand.Rand) {
	for _, l := range s.lanes {
		l.mu.Lock()
		l.settle(random)
	}
	for i, w := range s.wakers {
		s.await(func() bool { return w.seen.Load() == w.rung.Load() }, func() {
			s.fault(&s.n.lost, "waker %d: wake %d was seen, of %d", i, w.seen.Load(), w.rung.Load())
		})
	}
	for i, b := range s.boxes {
		s.await(func() bool { return b.got.Load() == b.sent.Load() }, func() {
			s.fault(&s.n.lost, "mailbox %d: %d values of %d were received", i, b.got.Load(), b.sent.Load())
		})
	}
	for i, tm := range s.timers {
		s.await(func() bool {
			tm.mu.Lock()
			defer tm.mu.Unlock()
			return !tm.set
		}, func() { s.fault(&s.n.lost, "timer %d did not expire", i) })
	}
}

// patience is how long to wait for what must come: after the first fault, the round only
// has to end.
func (s *soak) patience() time.Duration {
	if s.faults.Load() > 0 {
		return 50 * time.Millisecond
	}
	return fixture.Soon
}

// await looks until ok, or calls late.
func (s *soak) await(ok func() bool, late func()) {
	for begin := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > s.patience() {
			late()
			return
		}
	}
}

// soakWaker counts wakes. An event covers all wakes that began before it.
type soakWaker struct {
	*epore.Waker
	mu         sync.Mutex
	rung, seen atomic.Int64
}

func (w *soakWaker) ring(s *soak) {
	w.mu.Lock() // so that the count is that of the last wake
	defer w.mu.Unlock()
	w.rung.Add(1)
	if err := w.Wake(); err != nil {
		s.t.Errorf("Wake: %v", err)
	}
}

// soakBox is a mailbox of consecutive numbers.
type soakBox struct {
	*epore.Mailbox[int64]
	mu        sync.Mutex
	sent, got atomic.Int64
}

func (b *soakBox) send(s *soak) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.Send(b.sent.Load()); err != nil {
		s.t.Errorf("Send: %v", err)
	}
	b.sent.Add(1)
}

func (b *soakBox) drain(s *soak) {
	any := false
	for v := range b.All() {
		any = true
		if want := b.got.Load(); v != want {
			s.fault(&s.n.lost, "a mailbox delivers %d, want %d", v, want)
		}
		b.got.Add(1)
		s.n.values++
		if s.random.IntN(16) == 0 { // the rest comes with another event
			break
		}
	}
	if !any {
		s.fault(&s.n.wrong, "an event of an empty mailbox")
	}
}

// soakTimer is set for one event at a time.
type soakTimer struct {
	*epore.Timer
	s        *soak
	mu       sync.Mutex
	set      bool
	deadline time.Time
}

func (tm *soakTimer) change(random *rand.Rand) {
	tm.mu.Lock()
	defer tm.mu.Unlock()
	if tm.set {
		if random.IntN(4) == 0 && tm.Stop() {
			tm.set = false // so no event comes any more
		}
		return
	}
	d := time.Duration(random.IntN(3_000_000))
	tm.set, tm.deadline = true, time.Now().Add(d)
	if err := tm.Reset(d); err != nil {
		tm.s.t.Errorf("Reset: %v", err)
	}
}

func (tm *soakTimer) fire(s *soak) {
	now := time.Now()
	tm.mu.Lock()
	defer tm.mu.Unlock()
	s.n.expired++
	switch {
	case !tm.set:
		s.fault(&s.n.doubled, "an event of a timer that is not set")
	case now.Before(tm.deadline):
		s.fault(&s.n.early, "a timer is early by %v", tm.deadline.Sub(now))
	}
	tm.set = false
}

// link is one end of a lane.
type link interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// lane is a connection whose one end is registered, again and again.
type lane struct {
	s     *soak
	index int

	// mu is held by a goroutine that changes the lane, and by the loop while it reads
	// and writes. Changes of one lane are one at a time, so the lane knows what each
	// must return. Changes of different lanes are concurrent.
	mu          sync.Mutex
	here, there link
	source      epore.Source
	fd          int  // of here
	bare        bool // nothing deregisters here when it is closed
	registered  bool
	seq         uint32
	settling    bool // a goroutine waits for settled, and no other may change the lane
	settled     chan struct{}

	id               byte // of this connection: bytes that it carries begin with it
	sent, got        int  // towards here
	written, arrived int  // towards there
	shut, ended      bool // there has closed for writing; here has read the end
	gone             bool // there is closed

	// records are the latest registrations, by seq modulo their number.
	records   [64]atomic.Pointer[record]
	forgotten atomic.Int64 // no registration that is not in records, or loose, ended later

	// Of the loop: the registration of the latest event, its batch, and its bits.
	seenSeq   uint32
	seenBatch int64
	seenBits  epore.Readiness
	seenShots int
}

// record is one registration of a lane. The loop reads it without the lock.
type record struct {
	lane     *lane
	seq      uint32
	interest epore.Interest
	loose    atomic.Bool  // its descriptor was closed without Deregister
	ended    atomic.Int64 // when, in deaths; 0 while it lasts
}

// open makes a new connection. The caller holds mu.
func (l *lane) open(random *rand.Rand) (err error) {
	l.here, l.there, l.source, l.bare, err = soakPair(random)
	if err != nil {
		return err
	}
	l.fd = number(l.source)
	l.id++
	l.sent, l.got, l.written, l.arrived = 0, 0, 0, 0
	l.shut, l.ended, l.gone = false, false, false
	return err
}

// begin records a new registration before it is made, because its events may come before
// the call returns. The caller holds mu.
func (l *lane) begin(in epore.Interest) {
	l.seq++
	place := &l.records[l.seq%uint32(len(l.records))]
	if old := place.Load(); old != nil {
		l.forget(old.ended.Load())
	}
	place.Store(&record{lane: l, seq: l.seq, interest: in})
}

// forget records that a registration that is in no list has ended.
func (l *lane) forget(ended int64) {
	for {
		before := l.forgotten.Load()
		if ended <= before || l.forgotten.CompareAndSwap(before, ended) {
			return
		}
	}
}

// current is the record of the registration.
func (l *lane) current() *record { return l.records[l.seq%uint32(len(l.records))].Load() }

// end records that a registration has ended: from now on, no event of it is delivered.
func (s *soak) end(rec *record) {
	rec.ended.Store(s.deaths.Add(1))
	rec.lane.forget(rec.ended.Load())
}

// isLoose reports whether the descriptor of a registration was closed without Deregister.
func (l *lane) isLoose(seq uint32) bool {
	l.s.looseMu.Lock()
	defer l.s.looseMu.Unlock()
	for _, rec := range l.s.loose {
		if rec.lane == l && rec.seq == seq {
			return true
		}
	}
	return false
}

// token is that of the newest registration.
func (l *lane) token() epore.Token { return soakToken(ofLane, l.index, l.seq) }

// expect compares the answer to a change with what it has to be.
func (l *lane) expect(what string, err, want error) bool {
	if err == nil && want == nil || want != nil && errors.Is(err, want) {
		return true
	}
	l.s.fault(&l.s.n.wrong, "lane %d: %s: %v, want %v", l.index, what, err, want)
	return false
}

// register registers the lane, which is not registered. The caller holds mu.
func (l *lane) register(in epore.Interest) {
	l.begin(in)
	if !l.expect("register", l.s.r.Register(l.source, l.token(), in), nil) {
		return
	}
	l.registered = true
	l.s.looseMu.Lock()
	defer l.s.looseMu.Unlock()
	if before := l.s.loose[l.fd]; before != nil {
		l.s.end(before)
		delete(l.s.loose, l.fd)
	}
}

// reregister replaces the registration. The caller holds mu.
func (l *lane) reregister(in epore.Interest) {
	before := l.current()
	l.begin(in)
	if l.expect("reregister", l.s.r.Reregister(l.source, l.token(), in), nil) {
		l.s.end(before)
	}
}

// deregister ends the registration. The caller holds mu.
func (l *lane) deregister() {
	if l.expect("deregister", l.s.r.Deregister(l.source), nil) {
		l.registered = false
		l.s.end(l.current())
	}
}

// interest returns a random one, with the conditions that it must have.
func (l *lane) interest(random *rand.Rand, must epore.Interest) epore.Interest {
	in := must | []epore.Interest{epore.Readable, epore.Writable, epore.Readable | epore.Writable}[random.IntN(3)]
	return in | l.s.modes[random.IntN(len(l.s.modes))]
}

// replaceRegistration registers, reregisters or deregisters. The caller holds mu.
func (l *lane) replaceRegistration(random *rand.Rand) {
	switch {
	case !l.registered:
		l.register(l.interest(random, 0))
	case random.IntN(3) == 0:
		l.deregister()
	default:
		l.reregister(l.interest(random, 0))
	}
}

// change does operation n of 100. The caller holds mu.
func (l *lane) change(n int, random *rand.Rand) {
	switch {
	case n < 45:
		l.peerWrites(random)
	case n < 55:
		l.peerReads()
	case n < 85:
		l.replaceRegistration(random)
	case n < 90: // what must be refused
		if l.registered {
			l.expect("second register", l.s.r.Register(l.source, 0, l.interest(random, 0)), fs.ErrExist)
		} else {
			l.expect("deregister of nothing", l.s.r.Deregister(l.source), fs.ErrNotExist)
			l.expect("reregister of nothing", l.s.r.Reregister(l.source, 0, l.interest(random, 0)), fs.ErrNotExist)
		}
	case n < 92:
		if !l.shut {
			l.shut = true
			l.there.CloseWrite()
		}
	case n < 93:
		l.peerReads()
		l.closePeer()
	case n < 96:
		l.renew(random, true)
	default:
		l.renew(random, false)
	}
}

// renew closes both ends, and opens a new connection. Often it has the number of one that
// another goroutine has just closed. The caller holds mu.
func (l *lane) renew(random *rand.Rand, deregister bool) {
	if deregister && l.registered {
		l.deregister()
	}
	if l.registered && l.bare {
		rec := l.current()
		rec.loose.Store(true)
		l.s.looseMu.Lock()
		l.s.loose[l.fd] = rec
		l.s.looseMu.Unlock()
	}
	l.here.Close()
	if l.registered && !l.bare { // package socket has deregistered it
		l.s.end(l.current())
	}
	l.registered = false
	l.closePeer()
	if err := l.open(random); err != nil {
		l.s.t.Errorf("open: %v", err)
	}
}

// closePeer closes there, once. An io_uring that watches its number for somebody who had
// it before keeps the file open, so closing it alone would not end the stream. The caller
// holds mu.
func (l *lane) closePeer() {
	if !l.gone {
		l.shut, l.gone = true, true
		l.there.CloseWrite()
		l.there.Close()
	}
}

// content is byte i of a connection.
func (l *lane) content(i int) byte { return l.id ^ byte(i) ^ byte(i>>8) }

func (l *lane) peerWrites(random *rand.Rand) {
	if l.shut {
		return
	}
	var buf [64]byte
	n := 1 + random.IntN(len(buf))
	for i := range buf[:n] {
		buf[i] = l.content(l.sent + i)
	}
	n, err := l.there.Write(buf[:n])
	if err != nil && !fixture.WouldBlock(err) {
		l.s.t.Errorf("lane %d: write: %v", l.index, err)
	}
	l.sent += max(n, 0)
}

func (l *lane) peerReads() {
	if l.gone {
		return
	}
	var buf [256]byte
	for {
		n, err := l.there.Read(buf[:])
		for i := range max(n, 0) {
			if buf[i] != l.content(l.arrived+i) {
				l.s.fault(&l.s.n.wrong, "lane %d: its peer has read a byte of something else", l.index)
			}
		}
		l.arrived += max(n, 0)
		if n <= 0 || err != nil {
			return
		}
	}
}

// settle waits until all that was sent has arrived. The caller holds mu, and settle
// releases it.
func (l *lane) settle(random *rand.Rand) {
	l.settling = true
	select {
	case <-l.settled:
	default:
	}
	if in := l.interest(random, epore.Readable); l.registered {
		l.reregister(in)
	} else {
		l.register(in)
	}
	done := l.complete()
	l.mu.Unlock()
	if !done {
		late := time.NewTimer(l.s.patience())
		defer late.Stop()
		select {
		case <-l.settled:
		case <-late.C:
			l.mu.Lock()
			l.s.fault(&l.s.n.lost, "lane %d: %d bytes of %d were read, end %v of %v; registered for %v; readable: %v", l.index,
				l.got, l.sent, l.ended, l.shut, l.current().interest, fixture.Readable(l.fd, time.Millisecond))
			l.mu.Unlock()
		}
	}
	l.mu.Lock()
	l.peerReads()
	if !l.gone && l.arrived != l.written {
		l.s.fault(&l.s.n.lost, "lane %d: %d bytes of %d have arrived at the peer", l.index, l.arrived, l.written)
	}
	l.settling = false
	l.mu.Unlock()
}

// complete reports whether here has read all that there has sent. The caller holds mu.
func (l *lane) complete() bool { return l.got == l.sent && l.ended == l.shut }

// handle does what a program does with an event. It runs on the loop.
func (l *lane) handle(ev epore.Event, seq uint32, batch int64) {
	s := l.s
	var in epore.Interest
	var ended int64
	var loose bool
	if rec := l.records[seq%uint32(len(l.records))].Load(); rec.seq == seq {
		in, ended, loose = rec.interest, rec.ended.Load(), rec.loose.Load()
	} else if loose = l.isLoose(seq); !loose {
		ended = l.forgotten.Load()
	}
	switch {
	case ended != 0 && ended <= s.asked:
		s.fault(&s.n.stale, "lane %d: %v of registration %d, which ended %d registrations ago", l.index, ev.Ready, seq, s.asked-ended+1)
		return
	case loose:
		s.n.loose++
		return
	case in == 0:
		return // it has ended since the loop asked, and its record has been overwritten
	}
	conditions := ev.Ready & (backend.ReadyReadable | backend.ReadyWritable | backend.ReadyPriority)
	if l.seenSeq != seq {
		l.seenSeq, l.seenBatch, l.seenShots = seq, 0, 0
	}
	switch {
	case conditions&^epore.Readiness(in) != 0:
		s.fault(&s.n.wrong, "lane %d: %v was not requested, but %v", l.index, ev.Ready, in)
	case l.seenBatch == batch && l.seenBits&conditions != 0:
		s.fault(&s.n.doubled, "lane %d: %v twice in a batch", l.index, l.seenBits&conditions)
	case l.seenShots > 0 && in.Has(epore.OneShot):
		s.fault(&s.n.doubled, "lane %d: a second event (%v) for %v", l.index, ev.Ready, in)
	}
	if l.seenBatch != batch {
		l.seenBits = 0
	}
	l.seenBatch, l.seenBits, l.seenShots = batch, l.seenBits|conditions, l.seenShots+1

	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.registered || l.seq != seq { // changed since the loop asked
		return
	}
	if ev.ReadClosed() && !l.shut {
		s.fault(&s.n.wrong, "lane %d: %v, but the peer has not closed", l.index, ev.Ready)
	}
	if ev.Readable() {
		l.read(in)
	}
	if ev.Writable() && !l.gone && l.written-l.arrived < 1024 && s.random.IntN(4) == 0 {
		var buf [8]byte
		for i := range buf {
			buf[i] = l.content(l.written + i)
		}
		n, err := l.here.Write(buf[:])
		if err != nil && !fixture.WouldBlock(err) {
			s.t.Errorf("lane %d: write: %v", l.index, err)
		}
		l.written += max(n, 0)
	}
	if l.complete() {
		select {
		case l.settled <- struct{}{}:
		default:
		}
	} else if in.Has(epore.OneShot) && (l.settling || s.random.IntN(2) == 0) {
		l.reregister(l.interest(s.random, epore.Readable))
	}
}

// read reads: all there is, or for level-triggered and one-shot registrations some of it.
func (l *lane) read(in epore.Interest) {
	var buf [128]byte
	for first := true; ; first = false {
		room := buf[:]
		if !in.Has(epore.Edge) {
			room = buf[:1+l.s.random.IntN(len(buf))]
		}
		n, err := l.here.Read(room)
		switch {
		case n > 0:
			for i, b := range room[:n] {
				if b != l.content(l.got+i) {
					l.s.fault(&l.s.n.wrong, "lane %d: byte %d is of something else", l.index, l.got+i)
				}
			}
			l.got += n
			l.s.n.bytes += int64(n)
		case err == nil || errors.Is(err, io.EOF):
			if !l.shut || l.got != l.sent {
				l.s.fault(&l.s.n.lost, "lane %d: the end comes after %d bytes of %d", l.index, l.got, l.sent)
			}
			l.ended = true
			return
		case fixture.WouldBlock(err):
			if first {
				l.s.n.spurious++
			}
			return
		default:
			if !l.gone || !strings.Contains(err.Error(), "reset") {
				l.s.t.Errorf("lane %d: read: %v", l.index, err)
			}
			l.ended, l.got = l.shut, l.sent // what a reset has taken is not lost by the queue
			return
		}
		if !in.Has(epore.Edge) {
			return
		}
	}
}

// number returns the descriptor of a source.
func number(source epore.Source) (fd int) {
	raw, err := source.SyscallConn()
	if err == nil {
		err = raw.Control(func(n uintptr) { fd = int(n) })
	}
	if err != nil {
		return -1
	}
	return fd
}
