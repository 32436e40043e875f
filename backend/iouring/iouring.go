//go:build linux

package iouring

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
)

// Uring is an io_uring that watches by poll requests, one for each registration.
type Uring struct {
	entries uint32
	gears   []uint32 // to try, the best first; those of Open by default

	// mu guards everything below, and the rings, except that while the owner of
	// an owned ring is asleep in the kernel the submission queue is its alone.
	mu      sync.Mutex
	open    bool
	ring    *ring
	wakefd  int
	records records
	ledger  ledger

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
// never lost.
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
	_ backend.Settler  = (*Uring)(nil)
)

// Name implements [backend.Backend].
func (u *Uring) Name() string { return "io_uring" }

// Open implements [backend.Backend].
func (u *Uring) Open(c backend.Config) error {
	if u.open {
		return fmt.Errorf("it is open already, and serves one Poll: %w", unix.EBUSY)
	}
	if u.entries < 1 || u.entries > maxEntries {
		return fmt.Errorf("WithEntries(%d) is not between 1 and %d: %w", u.entries, maxEntries, unix.EINVAL)
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
	u.ring, u.wakefd, u.ledger = ring, wakefd, ledger{epfd: -1}
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
	u.open = true
	return nil
}

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
func (u *Uring) Descriptor() int { return u.ring.fd }

// Add implements [backend.Backend].
func (u *Uring) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.isOwn(h) {
		return fmt.Errorf("an io_uring cannot watch itself: %w", unix.EINVAL)
	}
	id, errno := identify(h)
	rec := u.records.get(uint32(h))
	known := rec != nil && rec.state != unknown && rec.identity == id
	if errno == 0 && id == notSocket {
		errno = u.ledger.add(h)
		if errno == unix.EEXIST && !known {
			errno = 0 // ours, of a time before the number was closed and came back by dup2
		}
	} else if errno == 0 && known {
		errno = unix.EEXIST
	}
	switch errno {
	case 0:
		if rec == nil {
			rec = u.records.add(uint32(h))
		}
		u.disarm(uint32(h), rec) // what the number was before is closed
	case unix.EBADF, unix.EPERM: // and so it is here
		if rec != nil && uint64(h) <= maxDescriptor {
			u.disarm(uint32(h), rec)
			_ = u.changed(true)
		}
		return linux.CtlError(errno)
	default:
		return linux.CtlError(errno)
	}
	rec.key, rec.identity, rec.interest = k, id, in
	u.arm(uint32(h), rec)
	return u.changed(false)
}

// Modify implements [backend.Backend].
func (u *Uring) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	rec, err := u.registered(h, unix.EPOLL_CTL_MOD)
	if err != nil {
		return err
	}
	u.disarm(uint32(h), rec)
	rec.key, rec.interest = k, in
	u.arm(uint32(h), rec)
	return u.changed(false)
}

// Delete implements [backend.Backend].
func (u *Uring) Delete(h backend.Handle) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	rec, err := u.registered(h, unix.EPOLL_CTL_DEL)
	if err != nil {
		return err
	}
	u.disarm(uint32(h), rec)
	return u.changed(true)
}

// registered returns the record of h if h still is the file that was
// registered. When it is not, its requests are on their way out.
func (u *Uring) registered(h backend.Handle, ledgerOp int) (*record, error) {
	rec := u.records.get(uint32(h))
	if uint64(h) > maxDescriptor || rec == nil || rec.state == unknown {
		if _, errno := identify(h); errno != 0 {
			return nil, errno
		}
		return nil, unix.ENOENT
	}
	var errno unix.Errno
	if rec.identity == notSocket {
		if errno = u.ledger.change(ledgerOp, h); errno == unix.EPERM {
			errno = unix.ENOENT // it is a regular file now
		}
	} else {
		var id uint64
		if id, errno = identify(h); errno == 0 && id != rec.identity {
			errno = unix.ENOENT
		}
	}
	if errno == unix.ENOENT || errno == unix.EBADF {
		u.disarm(uint32(h), rec)
		_ = u.changed(true)
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
		u.cancels = append(u.cancels, rec.userData(fd))
	}
	rec.state, rec.multi, rec.ends, rec.pending, rec.doubt = unknown, false, 0, 0, false
}

// changed sees to it that a change reaches the kernel in time: with the next
// Wait, but for two cases: when nobody may come for it; and when it is a Delete,
// whose file the kernel must let go. Its requests hold files open.
//
// What the kernel does not take stays queued, and then the waiter comes for it,
// and has the error.
func (u *Uring) changed(isDelete bool) error {
	switch {
	case !u.enabled:
		return nil // nothing was submitted yet
	case u.asleep && u.owned:
		if u.kicked {
			return nil
		}
		u.kicked = true
		return linux.Wake(u.wakefd)
	case u.asleep || u.eager:
		if u.hand() != 0 {
			return linux.Wake(u.wakefd)
		}
	case isDelete && len(u.cancels) > 0:
		// On an owned ring the owner only can. For another goroutine, which finds
		// it at work, the Delete takes effect with the next Wait.
		if errno := u.cancel(); errno != 0 && !u.owned {
			return linux.Wake(u.wakefd)
		}
	}
	return nil
}

// hand hands in everything that is queued, and leaves what comes of it to a Wait.
func (u *Uring) hand() unix.Errno {
	for left := true; left || u.ring.pending() > 0; {
		left = u.fill()
		if errno := u.enter(); errno != 0 {
			return errno
		}
	}
	return 0
}

// cancel hands in what is to be cancelled, and lets the owner of a ring finish it.
func (u *Uring) cancel() unix.Errno {
	for left := true; left || u.ring.pending() > 0; {
		left = u.fillCancels()
		if errno := u.enter(); errno != 0 {
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
func (u *Uring) enter() unix.Errno {
	n, flags := u.ring.pending(), uint32(0)
	if u.owned {
		flags = enterGetEvents
	} else if n == 0 {
		return 0
	}
	took, errno := u.ring.enter(n, flags)
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
		rec := u.records.get(fd)
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

// dropFirst removes the first n elements and keeps the room for more.
func dropFirst[T any](list []T, n int) []T {
	if n == 0 {
		return list
	}
	return list[:copy(list, list[n:])]
}

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

// Wait implements [backend.Backend].
func (u *Uring) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.eager = false
	u.round++
	err := u.wait(timeout)
	u.woken, u.spilled, u.err = false, false, nil
	for _, fd := range u.later {
		if rec := u.records.get(fd); rec.state == queued {
			u.arm(fd, rec)
		}
	}
	u.later = u.later[:0]
	if errors.Is(err, backend.ErrWrongThread) {
		return 0, err
	}
	if n := u.report(dst); n > 0 {
		return n, nil // an error comes again
	}
	return 0, err
}

// Settle implements [backend.Settler].
func (u *Uring) Settle() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.eager = true
	return u.refused(u.hand())
}

// wait waits until there is something to report, or for less.
func (u *Uring) wait(timeout time.Duration) error {
	if !u.enabled {
		if errno := u.ring.enable(); errno != 0 {
			return fmt.Errorf("io_uring_register: enable the ring: %w", errno)
		}
		u.enabled = true
	}
	// On an owned ring the wait takes along what is queued: one system call.
	along := u.owned && timeout != 0 && len(u.ready) == 0
	for {
		err := u.exchange(along)
		switch {
		case err != nil || u.err != nil:
			return errors.Join(err, u.err)
		case along && (len(u.ready) > 0 || u.woken):
			along, timeout = false, 0 // there was something: the rest does not wait
			continue
		case len(u.ready) > 0 || u.woken || timeout == 0:
			return nil
		}
		errno := u.sleep(timeout)
		if err := u.refused(errno); err != nil {
			return err
		}
		along, timeout = false, 0
		if !u.owned {
			continue
		}
		if err := u.drain(); err != nil || u.err != nil {
			return errors.Join(err, u.err)
		}
		if u.ring.pending() == 0 && len(u.arms) == 0 && len(u.cancels) == 0 {
			return nil
		}
	}
}

// exchange hands in everything that is queued, and collects what the kernel has
// to say, until there is nothing left of either: a request that the kernel ended
// for reasons of its own is made again here. Its event has not been reported yet,
// so what the new request says at first is part of that.
//
// With along it leaves in the submission queue what fits there.
func (u *Uring) exchange(along bool) error {
	busy := 0
	for first := true; ; first = false {
		left := u.fill()
		if left || !along && (first && u.owned || u.ring.pending() > 0) {
			errno := u.enter()
			if errno == unix.EBUSY && busy < manyTurns {
				busy++ // old kernels ask for completions to be collected first
			} else if err := u.refused(errno); err != nil {
				return errors.Join(err, u.drain())
			}
		}
		if err := u.drain(); err != nil || u.err != nil {
			return err
		}
		if !left && len(u.arms) == 0 && !u.wakeArms && (along || u.ring.pending() == 0) {
			return nil
		}
	}
}

// sleep blocks in the kernel. An owned ring takes along what is queued.
func (u *Uring) sleep(timeout time.Duration) unix.Errno {
	n := u.ring.pending()
	u.asleep = true
	u.mu.Unlock()
	_, errno := u.ring.wait(n, timeout)
	u.mu.Lock()
	u.asleep, u.kicked = false, false
	return errno
}

// refused is the error of an enter. EEXIST is what the kernel says to threads
// that do not own the ring; EINTR, that a wait ends early; EBADR, that it had no
// memory for completions and dropped some.
func (u *Uring) refused(errno unix.Errno) error {
	switch {
	case errno == 0 || errno == unix.EINTR:
		return nil
	case errno == unix.EBADR:
		u.remake()
		return nil
	case errno == unix.EEXIST && u.owned:
		return backend.ErrWrongThread
	}
	return fmt.Errorf("io_uring_enter: %w", errno)
}

// remake makes all requests anew: nobody knows which have ended.
func (u *Uring) remake() {
	u.wakeArms = true
	for p, page := range u.records.pages {
		for i := range page {
			if rec := &page[i]; rec.state == armed {
				fd := uint32(p*recordPage + i)
				u.cancels = append(u.cancels, rec.userData(fd))
				u.arm(fd, rec)
			}
		}
	}
}

// manyTurns bounds loops that end by themselves unless others are faster.
const manyTurns = 1000

// drain moves all completions into the records, those too that wait behind a
// full ring.
func (u *Uring) drain() error {
	for turn := 0; ; turn++ {
		i := u.ring.head()
		for end := u.ring.tail(); i != end; i++ {
			u.take(u.ring.at(i))
		}
		u.ring.consume(i)
		spilled := u.ring.overflowed()
		u.spilled = u.spilled || spilled
		if turn > manyTurns || !spilled && !(u.owned && u.ring.unfinished()) {
			return nil
		}
		if more, errno := u.ring.finish(); errno != 0 || !more {
			return u.refused(errno)
		}
	}
}

// take moves one completion into its record.
func (u *Uring) take(c *cqe) {
	fd, more := uint32(c.userData), c.flags&cqeMore != 0
	if fd == noDescriptor {
		if c.userData == wakeMark {
			u.woken = true
			u.wakeArms = u.wakeArms || !more
		}
		return
	}
	rec := u.records.get(fd)
	if rec.state != armed || rec.seq != uint32(c.userData>>32) {
		return // of a request that was cancelled
	}
	if c.result < 0 {
		u.ended(fd, rec, unix.Errno(-c.result))
		return
	}
	bits := uint32(c.result)
	if rec.urgent() {
		look := [1]unix.PollFd{{Fd: int32(fd), Events: int16(linux.Bits(rec.interest))}}
		if poll(look[:]) {
			bits = uint32(uint16(look[0].Revents))
		}
	}
	ready := rec.readiness(bits)
	if ready == 0 {
		// Nothing that was asked for. A single request would now complete again
		// at once, and again; one for edges waits for something new.
		rec.multi = true
	} else {
		if !rec.inReady {
			rec.inReady = true
			u.ready = append(u.ready, fd)
		}
		rec.pending |= uint8(ready)
		// After a Wait has reported a source, it is read. What the next Wait finds may
		// have come before that.
		rec.doubt = rec.doubt || rec.round+1 >= u.round
		if !rec.edges() {
			if more {
				u.cancels = append(u.cancels, rec.userData(fd))
			}
			rec.state, rec.multi, rec.ends = fired, false, 0
			return
		}
	}
	if more {
		rec.ends = 0
	} else {
		u.again(fd, rec)
	}
}

// again makes a request for edges anew that the kernel ended with an event. It
// does so when completions spill over, and when the file has nothing to wait for:
// a terminal whose other side is gone. Then all new ones end, too, at once; and
// as on epoll there will be no further event.
func (u *Uring) again(fd uint32, rec *record) {
	if rec.round != u.round {
		rec.ends = 0 // it was made in an earlier Wait, and lived until now
	}
	rec.ends++
	switch {
	case rec.ends < 4 || u.spilled && rec.ends < 8:
		u.arm(fd, rec)
	case u.spilled:
		rec.state = queued
		u.later = append(u.later, fd)
	default:
		rec.state = shot
	}
}

// ended handles a request that the kernel ended with an error.
func (u *Uring) ended(fd uint32, rec *record, errno unix.Errno) {
	switch errno {
	case unix.ECANCELED:
		u.arm(fd, rec) // not by us: the thread that had submitted it is gone
	case unix.EBADF:
		u.disarm(fd, rec) // closed without Delete
	case unix.EINVAL:
		rec.state = shot // nothing to wait for, and nothing ready: see again
	default:
		u.arm(fd, rec)
		u.err = fmt.Errorf("poll request for fd %d: %w", fd, errno)
	}
}

// report moves what is ready to dst, as far as there is room.
func (u *Uring) report(dst []backend.Event) int {
	n, done := 0, 0
	for n < len(dst) && done < len(u.ready) {
		batch := u.ready[done:min(len(u.ready), done+len(dst)-n)]
		done += len(batch)
		u.confirm(batch)
		for _, fd := range batch {
			rec := u.records.get(fd)
			rec.inReady = false
			if rec.pending == 0 {
				continue // deregistered since, or not ready any more
			}
			dst[n] = backend.Event{Key: rec.key, Ready: backend.Readiness(rec.pending)}
			n++
			rec.pending, rec.doubt = 0, false
			switch {
			case rec.state != fired:
				rec.round = u.round
			case rec.interest.Has(backend.OneShot):
				rec.state = shot
			default:
				// Level: the next Wait asks again, and is answered at once if the
				// condition still holds.
				u.arm(fd, rec)
			}
		}
	}
	u.ready = dropFirst(u.ready, done)
	return n
}

// confirm looks once more at what a request said, where that may be over: the
// source may have been read since, and would be reported without reason. So it is
// with level and one-shot requests that are older than this Wait, and with edges
// in doubt. It is one system call for all of batch.
func (u *Uring) confirm(batch []uint32) {
	u.polls = u.polls[:0]
	for _, fd := range batch {
		rec := u.records.get(fd)
		old := rec.state == fired && rec.round != u.round || rec.state == armed && rec.doubt
		if old && rec.pending != 0 && !rec.consuming() {
			u.polls = append(u.polls, unix.PollFd{Fd: int32(fd), Events: int16(linux.Bits(rec.interest))})
		}
	}
	if !poll(u.polls) {
		return
	}
	for i := range u.polls {
		fd := uint32(u.polls[i].Fd)
		rec := u.records.get(fd)
		now := uint8(rec.readiness(uint32(uint16(u.polls[i].Revents))))
		if rec.state == armed {
			// What is new has a completion of its own.
			rec.pending &= now
			continue
		}
		if rec.pending = now; now == 0 {
			u.arm(fd, rec)
		}
	}
}

// Wake implements [backend.Backend].
func (u *Uring) Wake() error { return linux.Wake(u.wakefd) }

// Close implements [backend.Backend].
func (u *Uring) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.open {
		return nil
	}
	u.open = false
	// The end of a ring cancels its requests a little later. This does it now,
	// where it can: kernels before 5.19 cannot, nor threads that do not own it.
	if u.enabled && u.enter() == 0 && u.ring.pending() == 0 {
		e := u.ring.next()
		e.opcode, e.fd, e.opFlags, e.userData = opAsyncCancel, -1, cancelAll|cancelAny, cancelMark
		u.ring.commit()
		_ = u.cancel()
	}
	return u.release()
}
