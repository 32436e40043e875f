//go:build linux

package iouring

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/posix"
	"github.com/epore/epore/internal/uring"
)

// Wait implements [backend.Backend].
func (u *Uring) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ring.IsClosed() {
		return 0, unix.EBADF
	}
	if u.owner == 0 { // the first one
		if errno := u.ring.Enable(); errno != 0 {
			return 0, refusal("io_uring_register", errno)
		}
		u.owner = unix.Gettid()
	}
	u.waiting = true
	u.busy = timeout == 0 || len(u.candidates) > 0 || u.ring.Head() != u.ring.Tail() || u.ring.Unfinished()
	n, err := u.wait(dst, timeout)
	u.waiting = false
	if u.deletes > 0 {
		u.cancel()
		u.ended.Broadcast()
	}
	return n, err
}

// wait submits what has changed, collects what the kernel has to say, asks about
// what may be over, and sleeps only if nothing is left to report. Being called back
// for a change does not end it.
func (u *Uring) wait(dst []backend.Event, timeout time.Duration) (int, error) {
	u.round++
	u.fresh = false
	var began time.Time
	for left := timeout; ; u.fresh = true {
		err := u.exchange()
		if err == backend.ErrWrongThread {
			return 0, err
		}
		if n := u.report(dst); n > 0 {
			return n, nil // an error comes again
		}
		u.busy = false
		switch {
		case err != nil:
			return 0, err
		case u.again:
			continue // what was over at a second look is watched again
		case left == 0 || u.wake.Load() && u.wake.Swap(false):
			return 0, nil
		}
		if timeout > 0 && began.IsZero() {
			began = time.Now()
		}
		if !u.unsubmitted() { // others may have changed something
			if err := u.refused(u.sleep(left)); err != nil {
				return 0, err
			}
		}
		if timeout > 0 {
			left = max(timeout-time.Since(began), 0)
		}
	}
}

// mustEnter reports whether there is something to submit, or something that only
// an enter fetches. Without deferred, an enter is also when the kernel interrupts
// the owner to complete requests that are already due.
func (u *Uring) mustEnter() bool {
	return u.unsubmitted() || u.ring.Unfinished() || u.ring.Overflowed() || !u.deferred
}

func (u *Uring) unsubmitted() bool {
	return u.ring.Pending() > 0 || len(u.arms) > 0 || len(u.cancels) > 0 || u.wakeArms
}

// exchange submits everything that is queued and collects what the kernel has to
// say, until neither is left. A request that the kernel ended for reasons of its
// own is made again here, before its event is reported: what the new request says
// at first is then part of that event.
//
// What other goroutines change meanwhile may be left: there is no end to that.
func (u *Uring) exchange() error {
	u.exchanging = true
	err := u.exchangeAll()
	u.exchanging = false
	u.exchanges++
	if u.deletes > 0 {
		u.ended.Broadcast()
	}
	return err
}

func (u *Uring) exchangeAll() error {
	u.err = nil
	for enter := u.mustEnter(); ; enter = true {
		u.again = false
		var errno unix.Errno
		if enter {
			u.fill()
			u.again = len(u.arms) > 0 || len(u.cancels) > 0 || u.wakeArms // the ring is full
			errno = u.enter()
		} else {
			errno = u.checkThread()
		}
		if err := u.refused(errno); err != nil {
			return err
		}
		if err := u.drain(); err != nil {
			return err
		}
		if u.err != nil || !u.again && u.ring.Pending() == 0 {
			return u.err
		}
	}
}

// sleep blocks in the kernel until there is a completion or the timeout is over.
func (u *Uring) sleep(timeout time.Duration) unix.Errno {
	u.asleep = true
	u.mu.Unlock()
	errno := u.ring.Wait(timeout)
	u.lock(true)
	u.asleep, u.called = false, false
	return errno
}

// refused returns the error of an enter. The kernel answers EINTR when a signal
// ends the wait, EBUSY (old ones) when completions have to be collected first, EBADR
// when it had no memory for completions and dropped some, and EEXIST to threads that
// do not own the ring.
func (u *Uring) refused(errno unix.Errno) error {
	switch errno {
	case 0, unix.EINTR, unix.EBUSY:
		return nil
	case unix.EBADR:
		u.remake() // nobody knows which have ended
		return nil
	case unix.EEXIST:
		return backend.ErrWrongThread
	}
	return fmt.Errorf("io_uring_enter: %w", errno)
}

// remake makes all requests anew.
func (u *Uring) remake() {
	u.wakeArms, u.again = true, true
	before := len(u.cancels)
	u.cancelArmed()
	for _, request := range u.cancels[before:] {
		fd := uint32(request)
		u.arm(fd, u.records.Get(uintptr(fd)))
	}
}

// manyTurns bounds a loop that ends by itself unless others are faster.
const manyTurns = 1000

// drain moves all completions into the records, including those that wait behind
// a full ring.
func (u *Uring) drain() error {
	for turn := 0; ; turn++ {
		i := u.ring.Head()
		for end := u.ring.Tail(); i != end; i++ {
			u.take(u.ring.At(i))
		}
		u.ring.Consume(i)
		if turn > manyTurns || !u.ring.Overflowed() && !u.ring.Unfinished() {
			return nil
		}
		if more, errno := u.finish(); errno != 0 || !more {
			return u.refused(errno)
		}
	}
}

// finish has the kernel deliver completions that it holds back, and reports whether
// any came.
func (u *Uring) finish() (more bool, errno unix.Errno) {
	defer u.lock(u.unlock())
	return u.ring.Finish()
}

// take moves one completion into its record.
func (u *Uring) take(c *uring.CQE) {
	fd, more := uint32(c.UserData), c.Flags&uring.More != 0
	switch {
	case c.UserData == wakeMark:
		if !more {
			u.wakeArms, u.again = true, true
		}
		return
	case c.UserData == cancelMark:
		return
	case fd&removal != 0:
		if c.Result == -int32(unix.EALREADY) {
			u.cancels = append(u.cancels, c.UserData)
			u.again = true
		}
		return
	}
	rec := u.records.Get(uintptr(fd))
	if seq := uint32(c.UserData >> 32); rec.state != armed || rec.seq != seq {
		// Of a request that was cancelled. If that took away what it says, the new
		// request for the file is not told.
		if rec.state != unregistered && rec.identity.Consumed() && rec.seq|anyRequest == seq|anyRequest && c.Result > 0 {
			u.say(fd, rec, rec.readiness(uint32(c.Result)))
		}
		return
	}
	if c.Result < 0 {
		u.failed(fd, rec, unix.Errno(-c.Result))
		return
	}
	if rec.round != u.round {
		rec.ends = 0 // the request was made in an earlier Wait, and lasted until now
	}
	ready := rec.readiness(uint32(c.Result))
	if ready == 0 {
		// Nothing that was asked for: the kernel also reports the end of the stream
		// unasked. A single request would now complete again at once, indefinitely;
		// a multishot one waits for something new.
		rec.multi = true
	} else if u.say(fd, rec, ready); rec.interest.Has(backend.OneShot) {
		if more {
			u.cancels = append(u.cancels, rec.userData(fd))
			u.again = true
		}
		rec.state, rec.multi, rec.ends = fired, false, 0
		return
	}
	switch {
	case more:
		rec.ends = 0
	case rec.ends < manyEnds:
		// The kernel ends a multishot request when completions overflow.
		rec.ends++
		u.rearm(fd, rec)
	default:
		// It ends each one at once for a file that has nothing to wait for, such as a
		// terminal whose other side is gone. As on epoll, no further edge will come.
		rec.state = silent
	}
}

// manyEnds is how many multishot requests for one registration the kernel may end
// in a row; an overflow ends few.
const manyEnds = 50

// say notes that a record has something to report, which a request said.
//
// That says what happened. It may be over by the time it is reported, because the
// source was read since. With level-triggered and one-shot registrations, round is
// the last Wait that what is pending is known from: what arrived while that one slept,
// or was said by a request made in it, was true then. With Edge, round is the last
// Wait that reported the source. After that one the source was read, and what the next
// one collects may have happened before.
func (u *Uring) say(fd uint32, rec *record, ready backend.Readiness) {
	if rec.pending |= uint8(ready); !rec.listed {
		rec.listed = true
		u.candidates = append(u.candidates, fd)
	}
	switch {
	case rec.urgent():
		rec.doubt = true
	case rec.interest&(backend.Edge|backend.OneShot) == backend.Edge:
		rec.doubt = rec.doubt || !u.fresh && rec.round+1 >= u.round
	case u.fresh:
		rec.round = u.round
	}
}

// failed handles a request that the kernel ended with an error.
func (u *Uring) failed(fd uint32, rec *record, errno unix.Errno) {
	switch errno {
	case unix.ECANCELED:
		u.rearm(fd, rec) // not by us: the thread that had submitted it is gone
	case unix.EBADF:
		u.disarm(fd, rec) // closed without Delete
	case unix.EINVAL:
		rec.state = silent // nothing to wait for, and nothing ready: see take
	default:
		u.rearm(fd, rec)
		u.err = fmt.Errorf("poll request for fd %d: %w", fd, errno)
	}
}

// report moves what is ready to dst, as far as there is room. A level-triggered
// registration stays a candidate for as long as it is ready.
func (u *Uring) report(dst []backend.Event) int {
	n, done := 0, 0
	for all := len(u.candidates); n < len(dst) && done < all; {
		batch := u.candidates[done:min(all, done+len(dst)-n, done+maxLook)]
		done += len(batch)
		u.confirm(batch)
		for _, fd := range batch {
			rec := u.records.Get(uintptr(fd))
			rec.listed = false
			if rec.pending == 0 { // deregistered, or not ready any more
				if rec.level() && rec.state == silent {
					u.rearm(fd, rec)
				}
				continue
			}
			dst[n] = backend.Event{Key: rec.key, Ready: backend.Readiness(rec.pending)}
			n++
			rec.pending, rec.doubt = 0, false
			switch {
			case rec.level():
				rec.listed = true
				u.candidates = append(u.candidates, fd)
			case rec.interest.Has(backend.OneShot):
				if rec.state == armed { // see Modify
					u.cancels = append(u.cancels, rec.userData(fd))
				}
				rec.state = silent
			default:
				rec.round = u.round
			}
		}
	}
	u.candidates = dropFirst(u.candidates, done)
	return n
}

// maxLook is how many descriptors one poll(2) is given. It refuses more than the limit
// of descriptors.
const maxLook = 1024

// confirm asks about all of batch that may be over, or that nothing is known of,
// by one poll(2).
func (u *Uring) confirm(batch []uint32) {
	u.polls = u.polls[:0]
	for _, fd := range batch {
		if rec := u.records.Get(uintptr(fd)); rec.mustLook(u.round) {
			u.polls = append(u.polls, unix.PollFd{Fd: int32(fd), Events: int16(posix.Bits(rec.interest))})
		}
	}
	if len(u.polls) == 0 {
		return
	}
	if !u.look() {
		u.remake() // a new request says at first what is ready
		return
	}
	for i := range u.polls {
		fd := uint32(u.polls[i].Fd)
		rec := u.records.Get(uintptr(fd))
		if rec.state == unregistered || rec.state == toArm {
			continue // changed meanwhile: a new request will say what is ready
		}
		now := uint8(rec.readiness(uint32(uint16(u.polls[i].Revents))))
		if rec.doubt && !rec.urgent() {
			now &= rec.pending // a new condition has a completion of its own
		}
		rec.pending, rec.doubt = now, false
		if now == 0 && rec.state == fired {
			u.rearm(fd, rec)
		}
	}
}

// look calls poll(2) for confirm, and reports whether it succeeded.
func (u *Uring) look() bool {
	defer u.lock(u.unlock())
	return poll(u.polls)
}
