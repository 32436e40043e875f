//go:build windows

package iocp

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/windows"

	"github.com/epore/epore/backend"
)

// sock is a registered socket. Of its two requests, main asks for what the
// registration is about, and is there in the state armed only. The other, watch, asks
// for closing alone and is there always: it tells a handle's new owner from the one
// before. There is no other way to ask Windows who a handle is.
type sock struct {
	handle backend.Handle
	base   windows.Handle // AFD's
	key    backend.Key
	mode   backend.Interest  // as registered
	want   backend.Interest  // the conditions that main is to ask for
	bits   backend.Readiness // in the state ready: its event
	main   *request
	watch  *request
	lost   bool // its socket was closed: not registered any more

	state      state
	prev, next *sock // in the list of that state
}

// state is where a sock stands between two events.
type state uint8

const (
	idle  state = iota // a one-shot that had its event, an edge that had all of them
	due                // to be armed by the next Wait
	armed              // main is with AFD
	ready              // has an event for a Wait
	states
)

// list is a queue of socks, first come first served.
type list struct{ first, last *sock }

func (l *list) push(s *sock) {
	s.prev, s.next = l.last, nil
	if l.last == nil {
		l.first = s
	} else {
		l.last.next = s
	}
	l.last = s
}

func (l *list) remove(s *sock) {
	if s.prev == nil {
		l.first = s.next
	} else {
		s.prev.next = s.next
	}
	if s.next == nil {
		l.last = s.prev
	} else {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil
}

// turn puts s into a state, at the end of its list.
func (q *IOCP) turn(s *sock, to state) {
	q.lists[s.state].remove(s)
	s.state = to
	q.lists[to].push(s)
}

// enter makes a sock of h, under no key so far.
func (q *IOCP) enter(h backend.Handle) (*sock, error) {
	base, err := baseHandle(h)
	if err != nil {
		return nil, err
	}
	s := q.unused
	if s == nil {
		s = new(sock)
	} else {
		q.unused = s.next
	}
	*s = sock{handle: h, base: base}
	q.lists[idle].push(s)
	if s.watch, err = q.ask(s, afdLocalClose); err != nil {
		q.discard(s)
		return nil, err
	}
	q.socks[h] = s
	return s, nil
}

// leave ends what is asked for s, and forgets it. closed reports that its socket was
// closed before.
func (q *IOCP) leave(s *sock) (closed bool, err error) {
	main, watch := s.main, s.watch
	s.main, s.watch = nil, nil
	delete(q.socks, s.handle)
	q.discard(s)
	return q.end(watch, main)
}

// lose is leave for a socket that was found closed. Nobody waits for its packets.
func (q *IOCP) lose(s *sock) {
	for _, r := range []*request{s.main, s.watch} {
		if r != nil {
			r.sock = nil
			cancelPoll(r.group.afd, r.slot)
		}
	}
	s.main, s.watch, s.lost = nil, nil, true
	delete(q.socks, s.handle)
	q.discard(s)
}

// discard makes s available for another socket.
func (q *IOCP) discard(s *sock) {
	q.lists[s.state].remove(s)
	s.next, q.unused = q.unused, s
}

// ask makes a request about s.
func (q *IOCP) ask(s *sock, events uint32) (*request, error) {
	r, err := q.requests.take()
	if err != nil {
		return nil, err
	}
	r.slot.poll = afdPoll{timeout: noTimeout, count: 1, socket: afdPollHandle{handle: s.base, events: events}}
	r.turn++
	r.sock, r.pending, r.ended, r.closed = s, true, false, false
	if err := startPoll(r.group.afd, r.slot, r.context()); err != nil {
		r.pending = false
		q.requests.give(r)
		if err == windows.ERROR_INVALID_HANDLE { // Wine finds out only here
			err = notASocket(s.base)
		}
		return nil, fmt.Errorf("ask AFD about it: %w", err)
	}
	return r, nil
}

// noSocket reports that it was the handle that was wrong: it was closed, or has become
// something else.
func noSocket(err error) bool {
	return errors.Is(err, errClosedHandle) || errors.Is(err, backend.ErrNotPollable)
}

// arm asks for what s wants.
func (q *IOCP) arm(s *sock) (err error) {
	if s.main, err = q.ask(s, asked(s.want)); err == nil {
		q.turn(s, armed)
	}
	return err
}

// disarm ends that, if it was asked for; then s is idle.
func (q *IOCP) disarm(s *sock) error {
	main := s.main
	s.main = nil
	if s.state != idle {
		q.turn(s, idle)
	}
	_, err := q.end(main)
	return err
}

// verify reports whether s is still the socket that was registered. It replaces watch,
// because what became of the old one is the answer: cancelled or closed.
func (q *IOCP) verify(s *sock) (same bool, err error) {
	watch, err := q.ask(s, afdLocalClose) // of whom the handle has now
	if err != nil && !noSocket(err) {
		return false, err
	}
	old := s.watch
	s.watch = watch
	closed, err := q.end(old)
	if err != nil {
		return false, err
	}
	if (closed || watch == nil) && !s.lost {
		q.lose(s)
	}
	return !s.lost, nil
}

// end cancels requests, which may be nil, waits until their packets have come, and
// reports whether one says that its socket was closed.
func (q *IOCP) end(rs ...*request) (closed bool, err error) {
	for _, r := range rs {
		if r != nil {
			r.ended = true
			cancelPoll(r.group.afd, r.slot)
		}
	}
	for _, r := range rs {
		if r == nil {
			continue
		}
		for begin := time.Now(); r.pending; {
			if err := q.progress(); err != nil {
				return false, err
			}
			if time.Since(begin) > patience {
				return false, errStuck
			}
		}
		closed = closed || r.closed
		q.requests.give(r)
	}
	return closed, nil
}

// patience is for what the kernel does at once.
const patience = 10 * time.Second

var errStuck = errors.New("AFD does not end a request that was cancelled")

// progress waits until packets have been collected: by the Wait in progress, which
// gets them first, or here.
func (q *IOCP) progress() error {
	if q.waiting {
		q.collected.Wait()
		return nil
	}
	n, err := dequeue(q.port, q.few[:], 10)
	q.collect(q.few[:n])
	return err
}

// collect does what packets say.
func (q *IOCP) collect(packets []packet) {
	for i := range packets {
		switch p := &packets[i]; p.key {
		case keyWake:
			q.waking.Store(false)
			q.woken = true
		case keyTick:
			q.woken = true
		case keyExit:
			q.exited(p.bytes)
		case keyPoll:
			if r := q.requests.find(p.context); r != nil {
				q.complete(r, windows.NTStatus(p.internal))
			}
		}
	}
}

// complete does what the packet of r says.
func (q *IOCP) complete(r *request, status windows.NTStatus) {
	var events uint32
	if status == windows.STATUS_SUCCESS && r.slot.poll.count > 0 {
		events = r.slot.poll.socket.events
	}
	r.pending, r.closed = false, events&afdLocalClose != 0
	s := r.sock
	switch {
	case r.ended: // whoever ended it waits for this
		return
	case s == nil:
	case r == s.watch:
		s.watch = nil
		if !r.closed { // cancelled, but not by us
			s.watch, _ = q.ask(s, afdLocalClose)
		}
		if s.watch == nil {
			q.lose(s)
		}
	case r.closed: // watch will say the same
		s.main = nil
		q.turn(s, idle)
	default:
		s.main = nil
		if s.bits = readiness(events); failed(status) && status != windows.STATUS_CANCELLED {
			s.bits = backend.ReadyError
		}
		if s.bits == 0 {
			q.turn(s, due)
		} else {
			q.turn(s, ready)
		}
	}
	q.requests.give(r)
}
