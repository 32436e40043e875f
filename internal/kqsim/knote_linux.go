package kqsim

import (
	"container/list"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/kq"
)

const maxDescriptor = math.MaxInt32

// name identifies a knote within its queue.
type name struct {
	ident  uint64
	filter int32
}

// knote is a registration.
type knote struct {
	name
	file
	flags  uint32 // of the change that added it; they never change
	fflags uint32 // as requested
	data   int64  // as requested; EVFILT_USER only
	udata  uint32

	pidfd     int    // EVFILT_PROC only
	watch     int    // the index in queue.watches, or -1
	key       uint64 // its data word in epoll
	disabled  bool
	active    bool          // something happened since it was last inactive
	position  *list.Element // in due, if it is active and not disabled
	scanned   uint64        // the scan that moved it to the end of due
	triggered bool          // EVFILT_USER
	last      kq.Event      // what it was when it last became active
	delivered bool          // last was delivered; for edges of files, which epoll does not report
}

func (kn *knote) has(flag uint32) bool { return kn.flags&flag != 0 }

// change applies changes. n of them are reported in events; stop says that some were
// skipped.
func (q *queue) change(changes, events []kq.Event) (n int, stop bool, err error) {
	if len(changes) > 0 {
		q.collect() // events before these changes come first
	}
	p := &q.k.p
	for i := range changes {
		c := &changes[i]
		errno := q.register(c)
		if errno == 0 && (c.Flags&kq.Receipt == 0 || p.noReceipt) {
			continue
		}
		if n == len(events) {
			if p.overruns && n > 0 {
				panic(fmt.Sprintf("kqsim: %s writes the answer to change %d past the room for %d events: memory is corrupt",
					p.Name, i, n))
			}
			// The kernel has written the earlier reports, and does not count them.
			if errno != 0 {
				err = errno
			}
			return 0, true, err
		}
		flags := uint32(kq.Error)
		if p.errorKeepsFlags {
			flags |= c.Flags
		}
		events[n] = kq.Event{Ident: c.Ident, Filter: c.Filter, Flags: flags, Fflags: c.Fflags,
			Data: int64(errno), Udata: c.Udata}
		n++
	}
	return n, false, nil
}

// register applies one change.
func (q *queue) register(c *kq.Event) unix.Errno {
	p := &q.k.p
	watch := -1
	switch {
	case c.Filter == p.sys.Read:
		watch = watchRead
	case c.Filter == p.sys.Write:
		watch = watchWrite
	case p.sys.HasExcept && c.Filter == p.sys.Except:
		watch = watchExcept
	case p.sys.HasUser && c.Filter == p.sys.User, c.Filter == p.sys.Proc:
	default:
		return unix.EINVAL
	}
	if watch >= 0 {
		if !isOpen(c.Ident) {
			q.forget(c.Ident)
			return unix.EBADF
		}
		q.forgetOthers(c.Ident)
	}

	kn := q.knotes[name{c.Ident, c.Filter}]
	fresh := kn == nil
	switch {
	case c.Flags&kq.Add != 0 && fresh:
		var errno unix.Errno
		if kn, errno = q.attach(c, watch); errno != 0 {
			return errno
		}
	case fresh:
		return unix.ENOENT
	case c.Flags&(kq.Add|kq.Delete) == kq.Delete:
		q.drop(kn)
		return 0
	case c.Flags&kq.Add != 0 || p.touches:
		kn.udata = c.Udata
		if kn.kind == user {
			kn.touch(c)
		} else {
			kn.fflags = c.Fflags
		}
	}

	if c.Flags&kq.Disable != 0 {
		kn.disabled = true
	}
	enable := c.Flags&kq.Enable != 0
	if enable {
		kn.disabled = false
	}
	if c.Flags&kq.Add != 0 || (enable || kn.kind == user) && !p.sleepyEnable {
		q.evaluate(kn)
	}
	if kn.active {
		q.activate(kn)
	}
	return 0
}

// attach adds a knote.
func (q *queue) attach(c *kq.Event, watch int) (*knote, unix.Errno) {
	q.key++
	kn := &knote{
		name:  name{c.Ident, c.Filter},
		flags: c.Flags, fflags: c.Fflags, data: c.Data, udata: c.Udata,
		watch: watch,
		key:   q.key,
	}
	p := &q.k.p
	switch {
	case c.Filter == p.sys.Proc:
		if errno := q.enterProcess(kn); errno != 0 {
			return nil, errno
		}
	case watch < 0:
		kn.kind = user
		kn.fflags &= userFlags
		kn.triggered = c.Fflags&kq.Trigger != 0 && !p.losesTrigger
	default:
		var errno unix.Errno
		if kn.file, errno = q.k.identify(c.Ident); errno != 0 {
			return nil, errno
		}
		if errno := kn.admit(p); errno != 0 {
			return nil, errno
		}
		if kn.kind == plain {
			kn.watch = -1
		} else if errno := q.enter(kn); errno != 0 {
			return nil, errno
		}
	}
	switch {
	case kn.watch >= 0:
		q.byKey[kn.key] = kn
	case kn.kind != user:
		q.files[kn] = true
	}
	q.knotes[kn.name] = kn
	return kn, 0
}

// enterProcess adds the process of a knote to an epoll instance.
func (q *queue) enterProcess(kn *knote) unix.Errno {
	if kn.ident > math.MaxInt32 {
		return unix.ESRCH
	}
	fd, err := unix.PidfdOpen(int(kn.ident), 0)
	switch {
	case err == unix.EINVAL:
		return unix.ESRCH
	case err != nil:
		return errnoOf(err)
	}
	kn.kind, kn.pidfd, kn.watch = process, fd, watchRead
	errno := q.enter(kn)
	if q.k.p.noZombies && poll(kn.descriptor()) != 0 {
		errno = unix.ESRCH
	}
	if errno != 0 {
		_ = unix.Close(fd)
	}
	return errno
}

// descriptor returns the descriptor that Linux has for the object of a knote.
func (kn *knote) descriptor() uint64 {
	if kn.kind == process {
		return uint64(kn.pidfd)
	}
	return kn.ident
}

// enter adds the file of a knote to an epoll instance.
func (q *queue) enter(kn *knote) unix.Errno {
	epfd, bits := q.watches[kn.watch], watchBits[kn.watch]
	errno := ctl(epfd, unix.EPOLL_CTL_ADD, kn.descriptor(), bits, kn.key)
	switch errno {
	case unix.EEXIST:
		// It was added before this number was closed, while a duplicate stayed open.
		errno = ctl(epfd, unix.EPOLL_CTL_MOD, kn.ident, bits, kn.key)
	case unix.EPERM: // the file cannot be polled
		if kn.kind != device {
			return unix.EINVAL
		}
		kn.kind, kn.watch = always, -1
		errno = 0
	case unix.ELOOP:
		errno = unix.EINVAL
	case unix.ENOSPC:
		errno = unix.ENOMEM
	}
	return errno
}

// userFlags are the bits in fflags of EVFILT_USER that belong to the application. The
// bits above say how to combine them.
const userFlags = 0x00ffffff

// touch applies a change to a user event.
func (kn *knote) touch(c *kq.Event) {
	flags := c.Fflags & userFlags
	switch c.Fflags & 0xc0000000 {
	case 0x40000000: // NOTE_FFAND
		kn.fflags &= flags
	case 0x80000000: // NOTE_FFOR
		kn.fflags |= flags
	case 0xc0000000: // NOTE_FFCOPY
		kn.fflags = flags
	}
	kn.data = c.Data
	if c.Fflags&kq.Trigger != 0 {
		kn.triggered = true
	}
}

// drop deletes a knote.
func (q *queue) drop(kn *knote) {
	q.unqueue(kn)
	delete(q.knotes, kn.name)
	delete(q.byKey, kn.key)
	delete(q.files, kn)
	if kn.watch >= 0 {
		// It fails if the number stands for another file by now.
		_ = ctl(q.watches[kn.watch], unix.EPOLL_CTL_DEL, kn.descriptor(), 0, 0)
	}
	if kn.kind == process {
		_ = unix.Close(kn.pidfd)
	}
}

// unqueue removes a knote from due.
func (q *queue) unqueue(kn *knote) {
	if kn.position != nil {
		q.due.Remove(kn.position)
		kn.position = nil
	}
}

// of returns the knotes of a descriptor.
func (q *queue) of(ident uint64) (kns []*knote) {
	sys := &q.k.p.sys
	filters := [...]int32{sys.Read, sys.Write, sys.Except}
	for i, filter := range filters {
		if i == 2 && !sys.HasExcept {
			break
		}
		if kn := q.knotes[name{ident, filter}]; kn != nil {
			kns = append(kns, kn)
		}
	}
	return kns
}

// forget drops the knotes of a closed descriptor.
func (q *queue) forget(ident uint64) {
	for _, kn := range q.of(ident) {
		q.drop(kn)
	}
}

// forgetOthers drops the knotes of an earlier file with that number.
func (q *queue) forgetOthers(ident uint64) {
	for _, kn := range q.of(ident) {
		if !q.same(kn) {
			q.drop(kn)
		}
	}
}

// same reports whether the number of a knote still stands for the same file.
func (q *queue) same(kn *knote) bool {
	if kn.kind == user || kn.kind == process {
		return true
	}
	if kn.watch < 0 {
		id, errno := q.k.identify(kn.ident)
		return errno == 0 && id.dev == kn.dev && id.ino == kn.ino && id.access == kn.access
	}
	// The epoll instance knows. To add a file that it has changes nothing.
	epfd := q.watches[kn.watch]
	errno := ctl(epfd, unix.EPOLL_CTL_ADD, kn.ident, 0, 0)
	if errno == 0 {
		_ = ctl(epfd, unix.EPOLL_CTL_DEL, kn.ident, 0, 0)
	}
	return errno == unix.EEXIST
}

// collect evaluates the knotes to which something happened.
func (q *queue) collect() {
	if q.closed {
		return
	}
	for _, epfd := range q.watches {
		for {
			n, err := unix.EpollWait(epfd, q.buf[:], 0)
			if err == unix.EINTR {
				continue
			}
			for _, e := range q.buf[:max(n, 0)] {
				// It has no knote if its descriptor was closed and a duplicate is open.
				kn := q.byKey[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
				if kn != nil && (!kn.active || kn.has(kq.OneShot)) && !q.wokenEarly(kn) {
					q.evaluate(kn)
				}
			}
			if n < len(q.buf) {
				break
			}
		}
	}
	for kn := range q.files {
		if kn.active {
			continue
		}
		e, ok := q.condition(kn)
		if ok && (!kn.has(kq.Clear) || !kn.delivered || e.Data != kn.last.Data) {
			kn.last = e
			q.activate(kn)
		}
	}
}

// wokenEarly reports that the kernel evaluates a knote before it marks that the reader of the
// pipe has gone, and does not find anything.
func (q *queue) wokenEarly(kn *knote) bool {
	return q.k.p.sys.SilentFullPipe && kn.watch == watchWrite && kn.kind == pipe && poll(kn.ident)&unix.POLLOUT == 0
}

// evaluate activates a knote if its condition holds.
func (q *queue) evaluate(kn *knote) {
	e, ok := q.condition(kn)
	if ok {
		kn.last = e
		q.activate(kn)
	}
}

func (q *queue) activate(kn *knote) {
	kn.active = true
	if !kn.disabled && kn.position == nil {
		kn.position = q.due.PushBack(kn)
	}
}

// scan delivers what is due, each knote at most once, and returns the number of events.
func (q *queue) scan(events []kq.Event) (n int) {
	q.scans++
	for n < len(events) {
		kn := q.first()
		if kn == nil || kn.scanned == q.scans {
			break
		}
		e, ok := q.reevaluate(kn)
		if !ok {
			continue
		}
		events[n] = e
		n++
		q.unqueue(kn)
		dispatch := kn.has(kq.Dispatch) && !q.k.p.noDispatch
		switch {
		case kn.has(kq.OneShot):
			q.drop(kn)
		case kn.has(kq.Clear) || dispatch:
			kn.active = false
			kn.disabled = kn.disabled || dispatch
			if kn.has(kq.Clear) {
				kn.triggered, kn.delivered, kn.last = false, true, e
			}
		default:
			kn.position = q.due.PushBack(kn)
			kn.scanned = q.scans
		}
	}
	return n
}

func (q *queue) first() *knote {
	if front := q.due.Front(); front != nil {
		return front.Value.(*knote)
	}
	return nil
}

// reevaluate returns what a due knote reports now. If that is nothing, it is no longer due.
func (q *queue) reevaluate(kn *knote) (e kq.Event, ok bool) {
	switch {
	case kn.disabled: // and still active
		q.unqueue(kn)
		return e, false
	case !q.same(kn):
		q.drop(kn)
		return e, false
	case kn.has(kq.OneShot) && !q.k.reevaluatesOneShots():
		e = kn.last
		e.Udata = kn.udata
		return e, true
	}
	if e, ok = q.condition(kn); !ok {
		q.unqueue(kn)
		kn.active = false
	}
	return e, ok
}

// pending returns the number of due knotes, without delivering them.
func (q *queue) pending() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0
	}
	q.collect()
	for at := q.due.Front(); at != nil; {
		kn := at.Value.(*knote)
		at = at.Next()
		q.reevaluate(kn)
	}
	q.settle()
	return q.due.Len()
}
