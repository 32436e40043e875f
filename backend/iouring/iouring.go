//go:build linux

package iouring

import (
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
	"github.com/epore/epore/internal/fdtable"
	"github.com/epore/epore/internal/uring"
)

// Uring is an io_uring that watches by poll requests, one for each registration.
// Create it with New. It serves one Poll, and only once. Its methods may be
// called from any goroutine, as far as [backend.Backend] allows, except that Wait
// is for the thread of the first Wait only, the owner.
type Uring struct {
	entries uint32
	flags   []uint32 // sets of setup flags to try
	// deferred says that the kernel completes requests only while the owner is in
	// an enter, and refuses an enter by any other thread.
	deferred bool
	// quiet is the flag of submissions that complete without a message when they
	// succeed, or 0 on kernels without it.
	quiet  uint8
	wakefd int
	wake   atomic.Bool // Wake was called

	// mu guards everything below. A Wait does not hold it during its system calls, in
	// which the scheduler may keep it from running for a long time. Meanwhile, the ring
	// is in use by that Wait alone, as is what belongs to the owner.
	mu      sync.Mutex
	ring    *uring.Ring
	records fdtable.Table[record]
	ids     linux.Identities

	owner int // the thread of the first Wait; 0 before
	// waiting says that a Wait is in progress; busy, that it will probably find events
	// without sleeping; asleep, that it blocks in the kernel; called, that the eventfd
	// was written since to call it back.
	waiting, busy, asleep, called bool
	// exchanging says that the Wait is in exchange, and exchanges counts its ends.
	// deletes is how many calls of Delete wait for such an end, or for that of the
	// Wait. Both are announced on ended.
	exchanging bool
	exchanges  uint64
	deletes    int
	ended      sync.Cond // on mu

	// What the kernel has to be told: the descriptors whose records need a request,
	// the user data of the requests to cancel, and that the eventfd needs one.
	arms     []uint32
	cancels  []uint64
	wakeArms bool

	// What follows belongs to the owner.

	// candidates are the descriptors that the next events are taken from, in this
	// order: those that a request reported, and the level-triggered ones that were
	// reported last time.
	candidates []uint32

	// And this concerns the Wait in progress.

	round uint32        // counts Waits
	fresh bool          // completions that are collected now are of this Wait
	again bool          // this Wait has queued changes, which it submits itself
	err   error         // of a request
	polls []unix.PollFd // of confirm

	// aroundCall, which tests set, is called before and after each system call without
	// mu.
	aroundCall func(after bool)
}

// The user data of a poll request is its descriptor (low half) and the record's
// sequence number (high half). A descriptor has 31 bits. Bit 31 marks the request
// that removes that poll request. Two values are special.
const (
	removal      = 1 << 31
	noDescriptor = 1<<32 - 1
	wakeMark     = noDescriptor
	cancelMark   = 1<<32 | noDescriptor
)

// An Option is an argument to New.
type Option func(*Uring)

// WithEntries sets how many submissions the ring holds, from 1 to 4096; the
// kernel rounds up to a power of two. The ring holds 8 times as many completions.
// The default is 128, which takes 28 KiB of memory; many kernels count that
// against RLIMIT_MEMLOCK. Submissions and completions that do not fit cost further
// system calls and are never lost. The kernel's table of requests also grows with
// this number, up to 1024: use that for many thousands of registrations that come
// and go. With any other number, Open fails with fs.ErrInvalid.
func WithEntries(n uint32) Option { return func(u *Uring) { u.entries = n } }

const (
	defaultEntries = 128
	maxEntries     = 4096
	completions    = 8 // for each submission
)

// New returns an io_uring queue that is not open yet: epore.NewWith opens it.
func New(opts ...Option) *Uring {
	u := &Uring{entries: defaultEntries, flags: setupFlags}
	for _, o := range opts {
		if o != nil {
			o(u)
		}
	}
	return u
}

var _ backend.Backend = (*Uring)(nil)

// Name implements [backend.Backend].
func (u *Uring) Name() string { return "io_uring" }

// Open implements [backend.Backend].
func (u *Uring) Open() error {
	if u.entries < 1 || u.entries > maxEntries {
		return fmt.Errorf("%d entries: create the io_uring with New, and WithEntries between 1 and %d: %w", u.entries, maxEntries, fs.ErrInvalid)
	}
	ring, flags, err := openBest(u.entries, u.flags)
	if err != nil {
		return err
	}
	wakefd, err := linux.Eventfd()
	if err != nil {
		_ = ring.Close()
		return linux.OpenError("eventfd", err)
	}
	u.ring, u.wakefd = ring, wakefd
	u.deferred = flags&uring.SetupDeferTaskrun != 0
	if u.deferred {
		ring.KeepConsumed(ring.CQEntries / 4) // so that one enter is enough
	}
	if ring.Features&uring.FeatCQESkip != 0 {
		u.quiet = uring.SkipSuccess
	}
	u.wakeArms = true
	u.ended.L = &u.mu
	if err := u.probe(); err != nil {
		_ = u.release()
		return err
	}
	return nil
}

// Capabilities implements [backend.Backend].
func (u *Uring) Capabilities() backend.Capabilities {
	return backend.Capabilities{
		Interests: backend.Readable | backend.Writable | backend.Priority |
			backend.Edge | backend.OneShot,
		Resolution: time.Nanosecond,
		OneThread:  true,
	}
}

// Add implements [backend.Backend].
func (u *Uring) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ring.IsClosed() {
		return unix.EBADF
	}
	if u.isInternal(h) {
		return fmt.Errorf("an io_uring cannot watch itself: %w", unix.EINVAL)
	}
	rec := u.records.Get(uintptr(h))
	known := rec != nil && rec.state != unregistered
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
		u.disarm(uint32(h), rec) // the previous owner of the number is closed
	case unix.EBADF, unix.EPERM: // here, too
		if known && uint64(h) <= linux.MaxDescriptor {
			u.disarm(uint32(h), rec)
			u.changed(true)
		}
		fallthrough
	default:
		return linux.RecordError(errno)
	}
	rec.key, rec.identity, rec.interest = k, id, in
	rec.seq |= anyRequest // the next request is the first of another file
	u.arm(uint32(h), rec)
	u.changed(false)
	return nil
}

// Modify implements [backend.Backend].
func (u *Uring) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	rec, err := u.registered(h, (*linux.Identities).Check)
	if err != nil {
		return err
	}
	told := rec.pending
	u.disarm(uint32(h), rec)
	if rec.identity.Consumed() {
		rec.pending = told // the new request is not told
	}
	rec.key, rec.interest = k, in
	u.arm(uint32(h), rec)
	u.changed(false)
	return nil
}

// Delete implements [backend.Backend].
func (u *Uring) Delete(h backend.Handle) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	rec, err := u.registered(h, (*linux.Identities).Forget)
	if err != nil {
		return err
	}
	u.disarm(uint32(h), rec)
	u.changed(true)
	return nil
}

// registered returns the record of h if h still is the file that was
// registered. If it is not, its requests are cancelled.
func (u *Uring) registered(h backend.Handle, look func(*linux.Identities, backend.Handle, linux.FileID) unix.Errno) (*record, error) {
	if u.ring.IsClosed() {
		return nil, unix.EBADF
	}
	rec := u.records.Get(uintptr(h))
	if uint64(h) > linux.MaxDescriptor || rec == nil || rec.state == unregistered {
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

// arm queues a request for fd.
func (u *Uring) arm(fd uint32, rec *record) {
	rec.state = toArm
	if !rec.queued {
		rec.queued = true
		u.arms = append(u.arms, fd)
	}
}

// rearm is arm for a Wait, which submits the request itself.
func (u *Uring) rearm(fd uint32, rec *record) {
	u.arm(fd, rec)
	u.again = true
}

// disarm ends a registration: the request, and the event that was not reported.
func (u *Uring) disarm(fd uint32, rec *record) {
	if rec.state == armed {
		u.cancels = append(u.cancels, rec.userData(fd))
	}
	rec.state, rec.multi, rec.ends, rec.pending, rec.doubt = unregistered, false, 0, 0, false
}

// changed makes sure that a change reaches the kernel in time. A Wait in progress
// submits it before it sleeps, and is called back if it sleeps already. Otherwise the
// next Wait submits it.
//
// A Delete takes effect before it returns, because a request holds its file open: it
// waits for an owner that waits, or cancels the request itself if it is called by the
// owner.
//
// If another goroutine calls while the owner does not wait, the Delete takes effect
// with the next Wait, or with the one that is about to find events. The owner must not
// be waited for, since it may be waiting for this goroutine, or for a processor.
func (u *Uring) changed(isDelete bool) {
	if u.asleep && !u.called && u.unsubmitted() {
		u.called = true
		_ = linux.Wake(u.wakefd)
	}
	if !isDelete || u.owner == 0 {
		return
	}
	// An exchange that has begun may have been too early to see this change.
	enough := u.exchanges + 1
	if u.exchanging {
		enough++
	}
	for u.waiting && !u.busy && u.exchanges < enough && (u.exchanging || len(u.cancels) > 0) {
		u.deletes++
		u.ended.Wait()
		u.deletes--
	}
	if !u.waiting && len(u.cancels) > 0 {
		u.cancel()
	}
}

// cancel submits what is to be cancelled, if the caller is the owner, and has the
// kernel let go of the files. It is not called during a Wait.
func (u *Uring) cancel() {
	for len(u.cancels) > 0 || u.ring.Pending() > 0 {
		u.fillCancels()
		if u.enter() != 0 || u.drain() != nil {
			return // the next Wait continues, and reports what went wrong
		}
	}
}

// enter submits the submission queue and has the kernel complete requests. It
// does not block. EEXIST means that the caller is not the owner.
func (u *Uring) enter() unix.Errno {
	defer u.lock(u.unlock())
	if !u.deferred && unix.Gettid() != u.owner {
		return unix.EEXIST
	}
	n := u.ring.Pending()
	took, errno := u.ring.Enter(n, uring.EnterGetEvents)
	if errno == 0 && took == 0 && n > 0 {
		return unix.EAGAIN
	}
	return errno
}

// checkThread returns EEXIST if the caller is not the owner.
func (u *Uring) checkThread() unix.Errno {
	defer u.lock(u.unlock())
	if unix.Gettid() != u.owner {
		return unix.EEXIST
	}
	return 0
}

// unlock unlocks mu for a system call, during a Wait. Other callers keep it: nothing
// else keeps a Wait from using the ring.
func (u *Uring) unlock() (unlocked bool) {
	if !u.waiting {
		return false
	}
	u.mu.Unlock()
	if u.aroundCall != nil {
		u.aroundCall(false)
	}
	return true
}

// lock undoes what unlock did.
func (u *Uring) lock(unlocked bool) {
	if !unlocked {
		return
	}
	if u.aroundCall != nil {
		u.aroundCall(true)
	}
	u.mu.Lock()
}

// fill moves queued changes into the submission queue, as far as they fit.
// Cancellations come first, since they make room in the kernel.
func (u *Uring) fill() {
	if u.wakeArms {
		e := u.ring.Next()
		if e == nil {
			return
		}
		e.Opcode, e.FD, e.Length, e.UserData = uring.OpPollAdd, int32(u.wakefd), uring.PollMulti, wakeMark
		e.OpFlags = uring.PollBits(unix.EPOLLIN)
		u.ring.Commit()
		u.wakeArms = false
	}
	u.fillCancels()
	done := 0
	for _, fd := range u.arms {
		rec := u.records.Get(uintptr(fd))
		if rec.state == toArm {
			e := u.ring.Next()
			if e == nil {
				break
			}
			rec.request(e, fd, u.round)
			u.ring.Commit()
		}
		rec.queued = false
		done++
	}
	u.arms = dropFirst(u.arms, done)
}

// fillCancels does so for cancellations only. POLL_REMOVE is the cheaper request,
// but gives up on a poll request that is about to complete (EALREADY). That one
// comes back here marked as a removal, and is cancelled by ASYNC_CANCEL.
func (u *Uring) fillCancels() {
	done := 0
	for _, request := range u.cancels {
		e := u.ring.Next()
		if e == nil {
			break
		}
		e.Opcode, e.UserData = uring.OpPollRemove, request|removal
		if request&removal != 0 {
			e.Opcode, e.UserData = uring.OpAsyncCancel, cancelMark
		}
		e.FD, e.Address, e.Flags = -1, request&^removal, u.quiet
		u.ring.Commit()
		done++
	}
	u.cancels = dropFirst(u.cancels, done)
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
	u.wake.Store(true)
	return linux.Wake(u.wakefd)
}

// Close implements [backend.Backend].
func (u *Uring) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	// The kernel cancels the requests of a closed ring a little later. This cancels
	// them now, if the caller is the owner and there are not too many: each must be
	// found, and one request that cancels all takes the kernel even longer.
	u.cancelArmed()
	if u.owner != 0 && len(u.cancels) <= cancelsAtClose {
		u.cancel()
	}
	return u.release()
}

const cancelsAtClose = 4096

// cancelArmed queues the cancellation of all requests. The caller takes care of
// their records.
func (u *Uring) cancelArmed() {
	u.records.All(func(fd uintptr, rec *record) {
		if rec.state == armed {
			u.cancels = append(u.cancels, rec.userData(uint32(fd)))
		}
	})
}
