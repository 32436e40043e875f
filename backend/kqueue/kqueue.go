//go:build unix

package kqueue

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fdtable"
	"github.com/epore/epore/internal/kq"
)

// Kqueue is a kqueue and what wakes it. Make it with New; it serves one Poll. Its
// methods may be called from any goroutine, as far as [backend.Backend] allows.
type Kqueue struct {
	kernel kq.Kernel
	sys    kq.System
	open   bool
	fd     int
	waker  waker
	events []kq.Event // what the kernel writes into; belongs to Wait

	// mu guards what follows. It is not held while a Wait is in the kernel: a change
	// takes effect on that by itself.
	mu      sync.Mutex
	records fdtable.Table[record]
	changes []kq.Event
	serial  uint32 // of the last registration
	// processes are those that are watched, by their number.
	processes map[int]process
	round     uint32 // of Wait
	// over are descriptors that have something to report that the kernel does not: see
	// record. They and the kernel's fill the batch first in turn.
	over      []uint32
	overFirst bool
}

// record is what a descriptor number is registered for.
type record struct {
	key backend.Key
	// serial names the registration in its knotes: an event with another one was
	// fetched before a change, and is stale.
	serial   uint32
	round    uint32 // the Wait that reported it last, at place
	place    uint32
	interest backend.Interest
	filters  filters // the knotes that it has; none: not registered
	shot     bool    // its knotes are disabled: one-shot, and has had its event
	// over is what there is to tell of what the kernel does not watch any more: mostly
	// a pipe to write whose reader is gone. One knote stays, disabled, so that the
	// kernel knows whether this is registered.
	over   backend.Readiness
	inOver bool // in Kqueue.over
}

// filters is a set of those that watch a descriptor.
type filters uint8

const (
	forReading filters = 1 << iota
	forWriting
	forUrgent
)

// New returns a kqueue that is not open yet: epore.NewWith opens it.
func New() *Kqueue {
	if newNative == nil {
		return new(Kqueue)
	}
	return NewOn(newNative())
}

// newNative is the kernel's own, on systems that have kqueue.
var newNative func() kq.Kernel

// NewOn is New on a kernel that is not the system's own: a simulated one, for tests.
func NewOn(k kq.Kernel) *Kqueue { return &Kqueue{kernel: k} }

var _ backend.Backend = (*Kqueue)(nil)

// Name implements [backend.Backend].
func (q *Kqueue) Name() string { return "kqueue" }

// Open implements [backend.Backend].
func (q *Kqueue) Open(backend.Config) error {
	switch {
	case q.kernel == nil:
		return fmt.Errorf("%s has no kqueue: %w", runtime.GOOS, errors.ErrUnsupported)
	case q.open:
		return fmt.Errorf("it is open already, and serves one Poll: %w", unix.EBUSY)
	}
	fd, err := q.kernel.Kqueue()
	if err != nil {
		return fmt.Errorf("kqueue: %w", err)
	}
	q.fd, q.sys = fd, q.kernel.System()
	if q.waker, err = newWaker(q.kernel, q.sys, fd); err != nil {
		return errors.Join(err, q.kernel.Close(fd))
	}
	q.records, q.over, q.processes = fdtable.Table[record]{}, nil, nil
	q.open = true
	return nil
}

// errNotOpen is the answer to calls before Open and after Close.
var errNotOpen = fmt.Errorf("the kqueue is not open: %w", unix.EBADF)

// Capabilities implements [backend.Backend].
func (q *Kqueue) Capabilities() backend.Capabilities {
	in := backend.Readable | backend.Writable | backend.Edge | backend.OneShot
	if q.sys.HasExcept {
		in |= backend.Priority
	}
	return backend.Capabilities{Interests: in, Resolution: time.Nanosecond}
}

// Add implements [backend.Backend].
//
// The kernel has no "add if it is not there": what is there would be changed. But it
// tells of a knote that is not there when it is to be enabled, and closing a
// descriptor drops its knotes, whoever has the number then.
func (q *Kqueue) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open {
		return errNotOpen
	}
	if h == backend.Handle(q.fd) || q.waker.has(h) {
		return fmt.Errorf("a kqueue cannot watch itself: %w", unix.EINVAL)
	}
	err := pollable(h)
	rec := q.record(h)
	if rec != nil && err == nil {
		switch probe := q.probe(h, rec); {
		case probe == nil:
			return unix.EEXIST
		case !gone(probe):
			return probe
		}
	}
	if rec != nil {
		rec.filters = 0 // what the number was before is closed
	}
	if err != nil {
		return err
	}
	if rec == nil {
		rec = q.records.Add(uintptr(h))
	}
	if err := q.install(h, rec, k, in); err != nil {
		return q.refusal(err)
	}
	return nil
}

// probe asks whether a knote is there, without changing it: to enable what is enabled
// and to disable what is disabled does nothing.
func (q *Kqueue) probe(h backend.Handle, rec *record) error {
	flag := uint32(kq.Enable)
	if rec.shot || rec.over != 0 {
		flag = kq.Disable
	}
	q.changes = q.changes[:0]
	q.change(h, rec, rec.filters&-rec.filters, flag) // any of them
	return q.submit()
}

// install makes the knotes of a registration, all or none.
func (q *Kqueue) install(h backend.Handle, rec *record, k backend.Key, in backend.Interest) error {
	q.changes = q.changes[:0]
	return q.replace(h, rec, k, in)
}

// replace is install after the changes that are listed already.
func (q *Kqueue) replace(h backend.Handle, rec *record, k backend.Key, in backend.Interest) error {
	q.serial++
	rec.key, rec.interest, rec.serial = k, in, q.serial
	rec.shot, rec.over = false, 0
	had := rec.filters
	rec.filters = filtersFor(in)
	flags := uint32(kq.Add)
	if in.Has(backend.Edge) {
		flags |= kq.Clear
	}
	q.change(h, rec, rec.filters, flags)
	err := q.submit()
	if err != nil {
		// The kernel stops at the first change that fails, be it a deletion.
		rec.filters |= had
		q.drop(h, rec)
	}
	// NetBSD says EBADF, of an open descriptor.
	if in.Has(backend.Writable) && (err == unix.EPIPE || err == unix.EBADF) && isPipe(h) {
		return q.installOver(h, rec)
	}
	return err
}

// installOver is install for a pipe that nobody reads any more.
func (q *Kqueue) installOver(h backend.Handle, rec *record) error {
	if !q.anchor(h, rec, backend.ReadyWritable|backend.ReadyWriteClosed) {
		return unix.EPIPE
	}
	if !rec.inOver {
		rec.inOver = true
		q.over = append(q.over, uint32(h))
	}
	_ = q.waker.wake() // the registration stands, whatever comes of it
	return nil
}

// anchor replaces the knotes of what is over by one that is disabled.
func (q *Kqueue) anchor(h backend.Handle, rec *record, over backend.Readiness) bool {
	q.drop(h, rec)
	q.changes = q.changes[:0]
	q.change(h, rec, forReading, kq.Add|kq.Disable)
	if q.submit() != nil {
		return false
	}
	rec.filters, rec.over = forReading, over
	return true
}

// drop removes the knotes that there are, without asking which.
func (q *Kqueue) drop(h backend.Handle, rec *record) {
	q.oneByOne(h, rec, kq.Delete)
	rec.filters = 0
}

// oneByOne changes all knotes of a record, whatever becomes of any of them: some may
// be gone.
func (q *Kqueue) oneByOne(h backend.Handle, rec *record, flags uint32) {
	for f := forReading; f <= forUrgent; f <<= 1 {
		if rec.filters&f != 0 {
			q.changes = q.changes[:0]
			q.change(h, rec, f, flags)
			_ = q.submit()
		}
	}
}

// Modify implements [backend.Backend].
//
// Adding over a knote changes neither its mode nor that it is disabled: it goes
// first. Adding reports what is ready, so nothing is lost between the two.
func (q *Kqueue) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	rec, err := q.registered(h)
	if err != nil {
		return err
	}
	q.changes = q.changes[:0]
	q.change(h, rec, rec.filters, kq.Delete)
	if err := q.replace(h, rec, k, in); err != nil {
		if gone(err) {
			return err
		}
		return fmt.Errorf("%w: %w", backend.ErrLost, q.refusal(err))
	}
	return nil
}

// Delete implements [backend.Backend].
func (q *Kqueue) Delete(h backend.Handle) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	rec, err := q.registered(h)
	if err != nil {
		return err
	}
	q.changes = q.changes[:0]
	q.change(h, rec, rec.filters, kq.Delete)
	if err = q.submit(); err != nil {
		q.drop(h, rec) // what came after the one that failed
	}
	rec.filters = 0
	return err
}

// registered returns the record of h, if it has knotes as far as we know.
func (q *Kqueue) registered(h backend.Handle) (*record, error) {
	if !q.open {
		return nil, errNotOpen
	}
	if rec := q.record(h); rec != nil {
		return rec, nil
	}
	if err := pollable(h); errors.Is(err, unix.EBADF) {
		return nil, err
	}
	return nil, unix.ENOENT
}

// record returns the record of h, nil if it has no knotes.
func (q *Kqueue) record(h backend.Handle) *record {
	if uint64(h) > math.MaxInt32 {
		return nil
	}
	if rec := q.records.Get(uintptr(h)); rec != nil && rec.filters != 0 {
		return rec
	}
	return nil
}

// gone reports that a change found no knote: the descriptor was closed.
func gone(err error) bool { return err == unix.ENOENT || err == unix.EBADF }

// refusal translates what the kernel says to descriptors that it cannot watch.
func (q *Kqueue) refusal(err error) error {
	switch {
	case err == unix.ENODEV, err == unix.EINVAL, err == unix.EPERM, err == unix.EOPNOTSUPP, err == unix.ENOTSUP:
		return fmt.Errorf("the kqueue of %s does not take it: %w: %w", q.sys.Name, backend.ErrNotPollable, err)
	}
	return err
}

// pollable refuses regular files and the like. Some kernels take them, and then are
// silent at the end of the file.
func pollable(h backend.Handle) error {
	if uint64(h) > math.MaxInt32 {
		return unix.EBADF // the kernel would look at the lower half only
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(h), &st); err != nil {
		return err
	}
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFBLK:
		return fmt.Errorf("%w: %w", backend.ErrNotPollable, unix.EPERM)
	}
	return nil
}

// isPipe reports that h is open, and a pipe.
func isPipe(h backend.Handle) bool {
	var st unix.Stat_t
	return unix.Fstat(int(h), &st) == nil && uint32(st.Mode)&unix.S_IFMT == unix.S_IFIFO
}

// filtersFor translates an interest.
func filtersFor(in backend.Interest) (f filters) {
	if in.Has(backend.Readable) {
		f |= forReading
	}
	if in.Has(backend.Writable) {
		f |= forWriting
	}
	if in.Has(backend.Priority) {
		f |= forUrgent
	}
	return f
}

// change lists a change of some knotes.
func (q *Kqueue) change(h backend.Handle, rec *record, f filters, flags uint32) {
	// Changes that are no deletions write the serial into the knote.
	ev := kq.Event{Ident: uint64(h), Flags: flags, Udata: rec.serial}
	if f&forReading != 0 {
		ev.Filter = q.sys.Read
		q.changes = append(q.changes, ev)
	}
	if f&forWriting != 0 {
		ev.Filter = q.sys.Write
		q.changes = append(q.changes, ev)
	}
	if f&forUrgent != 0 {
		ev.Filter, ev.Fflags = q.sys.Except, q.sys.OOB
		q.changes = append(q.changes, ev)
	}
}

// submit makes the listed changes. Without room for events the kernel answers with
// the first error, and leaves out what comes after it: no receipts, which old systems
// have not, and which one writes beyond the room for them. An interruption comes
// after the changes.
func (q *Kqueue) submit() error {
	_, err := q.kernel.Kevent(q.fd, q.changes, nil, 0)
	if err == unix.EINTR {
		return nil
	}
	return err
}

// longest is the longest wait that all kernels take for what it is.
const longest = 1_000_000 * time.Second

// Wait implements [backend.Backend].
func (q *Kqueue) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	if !q.open {
		return 0, errNotOpen
	}
	if len(dst) > len(q.events) {
		q.events = make([]kq.Event, len(dst))
	}
	b := batch{dst: dst}
	last := q.begin(&b)
	if b.n > 0 || last {
		timeout = 0
	}
	err := q.collect(&b, timeout)
	if last {
		q.mu.Lock()
		q.reportOver(&b)
		q.mu.Unlock()
	}
	if b.n > 0 {
		err = nil // it comes again
	}
	return b.n, err
}

// begin reports what is over, if it is its turn; or says that it comes last.
func (q *Kqueue) begin(b *batch) (last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.round++
	if len(q.over) == 0 {
		return false
	}
	if q.overFirst = !q.overFirst; q.overFirst {
		q.reportOver(b)
		return false
	}
	return true
}

// collect moves what the kernel has into the batch.
func (q *Kqueue) collect(b *batch, timeout time.Duration) error {
	for turn := 0; b.n < len(b.dst) && turn < manyTurns; turn++ {
		room := len(b.dst) - b.n
		n, err := q.kernel.Kevent(q.fd, nil, q.events[:room], min(timeout, longest))
		if err != nil {
			return err
		}
		b.left = 0
		q.take(b, q.events[:n])
		// Fewer than there is room for would say that no more is ready. But what the
		// kernel reports it puts behind the others: the same once more means that all
		// had their turn.
		if n < room || b.left == 0 || b.again {
			return nil
		}
		timeout = 0
	}
	return nil
}

// manyTurns is more than a batch takes.
const manyTurns = 64

// reportOver puts what is over into the batch.
func (q *Kqueue) reportOver(b *batch) {
	done := 0
	for n := len(q.over); done < n && b.n < len(b.dst); done++ {
		fd := q.over[done]
		rec := q.records.Get(uintptr(fd))
		rec.inOver = false
		if rec.over == 0 || rec.filters == 0 || gone(q.probe(backend.Handle(fd), rec)) {
			continue
		}
		if rec.round != q.round || rec.place >= uint32(b.n) || b.dst[rec.place].Key != rec.key { // else it has just ended
			b.dst[b.n] = backend.Event{Key: rec.key, Ready: rec.over}
			b.n++
		}
		if rec.interest&(backend.Edge|backend.OneShot) == 0 {
			rec.inOver = true
			q.over = append(q.over, fd) // behind the others
		}
	}
	q.over = append(q.over[:0], q.over[done:]...)
}

// batch is what a Wait has so far.
type batch struct {
	dst   []backend.Event
	n     int
	left  int  // events of the kernel that needed no place of their own
	again bool // one of them was there already
}

// take moves events of the kernel into the batch.
func (q *Kqueue) take(b *batch, events []kq.Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range events {
		ev := &events[i]
		if ev.Filter == q.sys.Proc { // first: its number is no descriptor's
			q.takeProcess(b, ev)
			continue
		}
		if q.waker.woken(ev) {
			b.left++
			continue
		}
		rec := q.records.Get(uintptr(ev.Ident))
		if rec == nil || rec.filters == 0 || rec.serial != ev.Udata || ev.Flags&kq.Error != 0 {
			b.left++ // stale
			continue
		}
		ready := q.readiness(ev)
		switch {
		case rec.round == q.round && rec.place < uint32(b.n) && b.dst[rec.place].Key == rec.key:
			// Reading and writing are two knotes; here they are one event.
			b.left++
			b.again = b.again || b.dst[rec.place].Ready.Has(ready)
			b.dst[rec.place].Ready |= ready
			q.ended(ev, rec, b.dst[rec.place].Ready)
			continue
		case rec.shot:
			b.left++
			continue
		}
		b.dst[b.n] = backend.Event{Key: rec.key, Ready: ready}
		rec.round, rec.place = q.round, uint32(b.n)
		b.n++
		if rec.interest.Has(backend.OneShot) {
			q.silence(backend.Handle(ev.Ident), rec)
		}
		q.ended(ev, rec, ready)
	}
}

// ended looks whether the kernel has dropped the knote with its event: this package
// asks for no one-shot knotes, and kernels make one of a knote whose file will never
// change again, as a pipe whose reader has gone.
func (q *Kqueue) ended(ev *kq.Event, rec *record, ready backend.Readiness) {
	if ev.Flags&kq.OneShot == 0 || rec.over != 0 {
		return
	}
	fd := uint32(ev.Ident)
	if q.anchor(backend.Handle(fd), rec, ready) && rec.interest&(backend.Edge|backend.OneShot) == 0 && !rec.inOver {
		rec.inOver = true
		q.over = append(q.over, fd)
	}
}

// silence disables all knotes of a registration. They stay, so that the kernel knows
// that it is registered. A knote for one shot would go, and leave the other one.
func (q *Kqueue) silence(h backend.Handle, rec *record) {
	rec.shot = true
	q.oneByOne(h, rec, kq.Disable)
}

// readiness translates an event.
func (q *Kqueue) readiness(ev *kq.Event) (r backend.Readiness) {
	ended := ev.Flags&kq.EOF != 0
	switch ev.Filter {
	case q.sys.Read:
		r = backend.ReadyReadable
		if ended {
			r |= backend.ReadyReadClosed
		}
	case q.sys.Write:
		r = backend.ReadyWritable
		if ended {
			r |= backend.ReadyWriteClosed
		}
	default:
		// OpenBSD tells the end of a stream here, too, and nothing urgent.
		if ev.Fflags&q.sys.OOB != 0 {
			r = backend.ReadyPriority
		}
		if ended {
			r |= backend.ReadyReadClosed
		}
		return r
	}
	if ended && ev.Fflags != 0 { // the pending error, which is left for the reader
		r |= backend.ReadyError
	}
	return r
}

// Wake implements [backend.Backend].
func (q *Kqueue) Wake() error {
	if !q.open {
		return errNotOpen
	}
	return q.waker.wake()
}

// Close implements [backend.Backend].
func (q *Kqueue) Close() error {
	if !q.open {
		return nil
	}
	q.open = false
	return errors.Join(q.waker.close(), q.kernel.Close(q.fd))
}
