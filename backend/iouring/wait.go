//go:build linux

package iouring

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/posix"
)

// Wait implements [backend.Backend].
func (u *Uring) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.open {
		return 0, errNotOpen
	}
	u.eager = false
	u.round++
	err := u.wait(timeout)
	u.woken, u.spilled, u.err = false, false, nil
	for _, fd := range u.later {
		if rec := u.records.Get(uintptr(fd)); rec.state == queued {
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

// Flush implements [backend.Flusher].
func (u *Uring) Flush() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.open {
		return errNotOpen
	}
	u.eager = true
	return u.refused(u.hand())
}

// wait waits until there is something to report, or for less.
func (u *Uring) wait(timeout time.Duration) error {
	if !u.enabled {
		if errno := u.ring.enable(); errno != 0 {
			return refusal("io_uring_register", errno)
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
			errno := u.record()
			if errno == unix.EBUSY && busy < manyTurns {
				busy++ // old kernels ask for completions to be collected first
			} else if err := u.refused(errno); err != nil {
				if err != backend.ErrWrongThread {
					err = errors.Join(err, u.drain())
				}
				return err
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
	u.awake.Broadcast()
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
	before := len(u.cancels)
	u.cancelArmed()
	for _, request := range u.cancels[before:] {
		fd := uint32(request)
		u.arm(fd, u.records.Get(uintptr(fd)))
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
	rec := u.records.Get(uintptr(fd))
	if rec.state != armed || rec.seq != uint32(c.userData>>32) {
		return // of a request that was cancelled
	}
	if c.result < 0 {
		u.ended(fd, rec, unix.Errno(-c.result))
		return
	}
	bits := uint32(c.result)
	if rec.urgent() {
		look := [1]unix.PollFd{{Fd: int32(fd), Events: int16(posix.Bits(rec.interest))}}
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
			rec := u.records.Get(uintptr(fd))
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
		rec := u.records.Get(uintptr(fd))
		old := rec.state == fired && rec.round != u.round || rec.state == armed && rec.doubt
		if old && rec.pending != 0 && !rec.consuming() {
			u.polls = append(u.polls, unix.PollFd{Fd: int32(fd), Events: int16(posix.Bits(rec.interest))})
		}
	}
	if !poll(u.polls) {
		return
	}
	for i := range u.polls {
		fd := uint32(u.polls[i].Fd)
		rec := u.records.Get(uintptr(fd))
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
