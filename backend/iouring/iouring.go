//go:build linux

package iouring

import (
	"fmt"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
	"github.com/epore/epore/internal/fdtable"
)

// Uring is an io_uring that watches by poll requests, one for each registration.
// Make it with New; it serves one Poll, and only once. Its methods may be called
// from any goroutine, as far as [backend.Backend] allows.
type Uring struct {
	entries uint32
	used    bool     // it was opened once
	gears   []uint32 // to try, the best first; those of Open by default

	// mu guards everything below, and the rings, except that while the owner of
	// an owned ring is asleep in the kernel the submission queue is its alone.
	mu      sync.Mutex
	awake   sync.Cond // on mu: a Wait came back from the kernel
	open    bool
	ring    *ring
	wakefd  int
	records fdtable.Table[record]
	ids     linux.Identities

	// owned is the gear: the ring belongs to the thread of the first Wait, which
	// enables it. Otherwise any thread may use it.
	owned, enabled bool
	// asleep says that a Wait blocks in the kernel; kicked, that the eventfd was
	// written since, so that it comes back for changes.
	asleep, kicked bool
	// eager says that the waiter is parked, and would not come for what is queued.
	eager bool

	// What the kernel is to be told: requests to make, of the records' state at
	// that moment; requests to cancel, by their user data; and the eventfd's.
	arms     []uint32
	cancels  []uint64
	wakeArms bool
	// What it told: the descriptors whose records have something to report, in
	// the order in which they will; that the eventfd was written; and an error.
	ready   []uint32
	woken   bool
	spilled bool     // completions waited behind a full ring during this Wait
	later   []uint32 // to be armed when this Wait is over
	err     error
	// quiet is the flag of submissions whose success is no news, where there is one.
	quiet uint8

	round uint32        // counts Waits
	polls []unix.PollFd // of confirm
}

// The user data of a request is its descriptor (low half) and the record's
// sequence number (high half), but for these, whose low half is no descriptor.
const (
	noDescriptor = 1<<32 - 1
	wakeMark     = noDescriptor
	cancelMark   = 1<<32 | noDescriptor
)

// An Option is an argument to New.
type Option func(*Uring)

// WithEntries sets how many submissions the ring holds, from 1 to 4096 and
// rounded up to a power of two by the kernel; it holds 8 times as many
// completions. 128 are the default: 28 KiB of memory, which many kernels count
// against RLIMIT_MEMLOCK. What does not fit costs further system calls and is
// never lost. The kernel's table of requests grows with it, too, up to 1024: take
// that for many thousands of registrations that come and go. Other numbers make
// Open fail with fs.ErrInvalid.
func WithEntries(n uint32) Option { return func(u *Uring) { u.entries = n } }

const (
	defaultEntries = 128
	maxEntries     = 4096
	completions    = 8 // for each submission
)

// New returns an io_uring queue that is not open yet: epore.NewWith opens it.
func New(opts ...Option) *Uring {
	u := &Uring{entries: defaultEntries}
	for _, o := range opts {
		if o != nil {
			o(u)
		}
	}
	return u
}

var (
	_ backend.Backend  = (*Uring)(nil)
	_ backend.Pollable = (*Uring)(nil)
	_ backend.Flusher  = (*Uring)(nil)
)

// Name implements [backend.Backend].
func (u *Uring) Name() string { return "io_uring" }

// Open implements [backend.Backend].
func (u *Uring) Open(c backend.Config) error {
	if u.used {
		return fmt.Errorf("it was opened before, and serves one Poll: %w", unix.EBUSY)
	}
	if u.entries < 1 || u.entries > maxEntries {
		return fmt.Errorf("an io_uring of %d entries: make it with New, and WithEntries between 1 and %d: %w", u.entries, maxEntries, fs.ErrInvalid)
	}
	gears := u.gears
	if gears == nil {
		gears = []uint32{ownedGear, sharedGear, plainGear}
		if !c.Blocking {
			gears = gears[1:]
		}
	}
	ring, gear, err := openBest(u.entries, gears)
	if err != nil {
		return err
	}
	wakefd, err := linux.Eventfd()
	if err != nil {
		_ = ring.close()
		return linux.OpenError("eventfd", err)
	}
	u.ring, u.wakefd = ring, wakefd
	u.owned = gear&setupSingleIssuer != 0
	u.enabled = !u.owned
	if ring.features&featCQESkip != 0 {
		u.quiet = sqeSkipSuccess
	}
	u.wakeArms = true
	if err := u.probe(); err != nil {
		_ = u.release()
		return err
	}
	u.awake.L = &u.mu
	u.open, u.used = true, true
	return nil
}

// errNotOpen is the answer to calls before Open and after Close, when the memory
// of the rings is not there.
var errNotOpen = fmt.Errorf("the io_uring is not open: %w", unix.EBADF)

// Capabilities implements [backend.Backend].
func (u *Uring) Capabilities() backend.Capabilities {
	return backend.Capabilities{
		Interests: backend.Readable | backend.Writable | backend.Priority |
			backend.Edge | backend.OneShot,
		Resolution: time.Nanosecond,
		OneThread:  u.owned,
	}
}

// Descriptor implements [backend.Pollable].
func (u *Uring) Descriptor() int {
	if !u.open {
		return -1
	}
	return u.ring.fd
}

// Add implements [backend.Backend].
func (u *Uring) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.open {
		return errNotOpen
	}
	if u.isOwn(h) {
		return fmt.Errorf("an io_uring cannot watch itself: %w", unix.EINVAL)
	}
	rec := u.records.Get(uintptr(h))
	known := rec != nil && rec.state != unknown
	var was linux.FileID
	if known {
		was = rec.identity
	}
	id, errno := u.ids.Record(h, was, known)
	switch errno {
	case 0:
		if rec == nil {
			rec = u.records.Add(uintptr(h))
		}
		u.disarm(uint32(h), rec) // what the number was before is closed
	case unix.EBADF, unix.EPERM: // and so it is here
		if rec != nil && uint64(h) <= linux.MaxDescriptor {
			u.disarm(uint32(h), rec)
			u.changed(true)
		}
		fallthrough
	default:
		return linux.RecordError(errno)
	}
	rec.key, rec.identity, rec.interest = k, id, in
	u.arm(uint32(h), rec)
	u.changed(false)
	return nil
}

// Modify implements [backend.Backend].
func (u *Uring) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.open {
		return errNotOpen
	}
	rec, err := u.registered(h, (*linux.Identities).Check)
	if err != nil {
		return err
	}
	u.disarm(uint32(h), rec)
	rec.key, rec.interest = k, in
	u.arm(uint32(h), rec)
	u.changed(false)
	return nil
}

// Delete implements [backend.Backend].
func (u *Uring) Delete(h backend.Handle) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.open {
		return errNotOpen
	}
	rec, err := u.registered(h, (*linux.Identities).Forget)
	if err != nil {
		return err
	}
	u.disarm(uint32(h), rec)
	u.changed(true)
	return nil
}

// registered returns the record of h if h still is the file that was
// registered. When it is not, its requests are on their way out.
func (u *Uring) registered(h backend.Handle, look func(*linux.Identities, backend.Handle, linux.FileID) unix.Errno) (*record, error) {
	rec := u.records.Get(uintptr(h))
	if uint64(h) > linux.MaxDescriptor || rec == nil || rec.state == unknown {
		return nil, linux.Unknown(h)
	}
	errno := look(&u.ids, h, rec.identity)
	if errno == unix.ENOENT || errno == unix.EBADF {
		u.disarm(uint32(h), rec)
		u.changed(true)
	}
	if errno != 0 {
		return nil, errno
	}
	return rec, nil
}

// arm puts a request for fd on the list of what the kernel is to be told.
func (u *Uring) arm(fd uint32, rec *record) {
	rec.state = queued
	if !rec.inArms {
		rec.inArms = true
		u.arms = append(u.arms, fd)
	}
}

// disarm ends what there is of a registration, also of a request on its way.
func (u *Uring) disarm(fd uint32, rec *record) {
	if rec.state == armed {
		u.cancels = append(u.cancels, rec.userData(uint32(fd)))
	}
	rec.state, rec.multi, rec.ends, rec.pending, rec.doubt = unknown, false, 0, 0, false
}

// changed sees to it that a change reaches the kernel in time: with the next
// Wait, but for two cases: when nobody may come for it; and when it is a Delete,
// whose file the kernel must let go. Its requests hold files open.
//
// What the kernel does not take stays queued, and then the waiter comes for it,
// and has the error.
func (u *Uring) changed(isDelete bool) {
	switch {
	case !u.enabled: // nothing was submitted yet
	case u.asleep && u.owned:
		if !u.kicked {
			u.kicked = true
			_ = linux.Wake(u.wakefd)
		}
		// The owner comes, and hands everything in before it lets go of mu.
		for round := u.round; isDelete && u.asleep && u.round == round; {
			u.awake.Wait()
		}
	case u.asleep || u.eager:
		if u.hand() != 0 {
			_ = linux.Wake(u.wakefd)
		}
	case isDelete && len(u.cancels) > 0:
		// On an owned ring the owner only can. For another goroutine, which finds
		// it at work, the Delete takes effect with the next Wait.
		if u.cancel() != 0 && !u.owned {
			_ = linux.Wake(u.wakefd)
		}
	}
}

// hand hands in everything that is queued, and leaves what comes of it to a Wait.
func (u *Uring) hand() unix.Errno {
	for left := true; left || u.ring.pending() > 0; {
		left = u.fill()
		if errno := u.record(); errno != 0 {
			return errno
		}
	}
	return 0
}

// cancel hands in what is to be cancelled, and lets the owner of a ring finish it.
func (u *Uring) cancel() unix.Errno {
	for left := true; left || u.ring.pending() > 0; {
		left = u.fillCancels()
		if errno := u.record(); errno != 0 {
			return errno
		}
	}
	if u.owned {
		_ = u.drain() // the cancelled requests end here, and let their files go
	}
	return 0
}

// enter hands the submission queue to the kernel, on an owned ring together
// with the leave to finish requests. It does not block.
func (u *Uring) record() unix.Errno {
	n, flags := u.ring.pending(), uint32(0)
	if u.owned {
		flags = enterGetEvents
	} else if n == 0 {
		return 0
	}
	took, errno := u.ring.record(n, flags)
	if errno == 0 && took == 0 && n > 0 {
		return unix.EAGAIN
	}
	return errno
}

// fill moves queued changes into the submission queue, and says whether some
// are left that did not fit. Cancelling comes first: it makes room for others.
func (u *Uring) fill() (left bool) {
	if u.wakeArms {
		e := u.ring.next()
		if e == nil {
			return true
		}
		e.opcode, e.fd, e.length, e.userData = opPollAdd, int32(u.wakefd), pollMulti, wakeMark
		e.opFlags = polled(unix.EPOLLIN)
		u.ring.commit()
		u.wakeArms = false
	}
	if u.fillCancels() {
		return true
	}
	done := 0
	for _, fd := range u.arms {
		rec := u.records.Get(uintptr(fd))
		if rec.state == queued {
			e := u.ring.next()
			if e == nil {
				break
			}
			rec.request(e, fd, u.round)
			u.ring.commit()
		}
		rec.inArms = false
		done++
	}
	u.arms = dropFirst(u.arms, done)
	return len(u.arms) > 0
}

// fillCancels is fill for what is to be cancelled only.
func (u *Uring) fillCancels() (left bool) {
	done := 0
	for _, request := range u.cancels {
		// Not POLL_REMOVE: that gives up on a request that is just firing.
		e := u.ring.next()
		if e == nil {
			break
		}
		e.opcode, e.fd, e.address, e.userData, e.flags = opAsyncCancel, -1, request, cancelMark, u.quiet
		u.ring.commit()
		done++
	}
	u.cancels = dropFirst(u.cancels, done)
	return len(u.cancels) > 0
}

// dropFirst removes the first n elements and keeps the room for more.
func dropFirst[T any](list []T, n int) []T {
	if n == 0 {
		return list
	}
	return list[:copy(list, list[n:])]
}

// Wake implements [backend.Backend].
func (u *Uring) Wake() error {
	if !u.open {
		return errNotOpen
	}
	return linux.Wake(u.wakefd)
}

// Close implements [backend.Backend].
func (u *Uring) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.open {
		return nil
	}
	u.open = false
	// The end of a ring cancels its requests, but a little later. This does it now,
	// where it may (the owner's thread), and as long as it is quick: each must be
	// found, and to cancel all with one request takes the kernel longer still.
	u.cancelArmed()
	if u.enabled && len(u.cancels) <= cancelsAtClose {
		_ = u.cancel()
	}
	return u.release()
}

const cancelsAtClose = 4096

// cancelArmed lists all requests to be cancelled, and leaves their records to
// the caller.
func (u *Uring) cancelArmed() {
	u.records.All(func(fd uintptr, rec *record) {
		if rec.state == armed {
			u.cancels = append(u.cancels, rec.userData(uint32(fd)))
		}
	})
}
