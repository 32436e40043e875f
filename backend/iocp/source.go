//go:build windows

package iocp

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/windows"

	"github.com/epore/epore/backend"
)

// source is a registered socket, or a watched process. A socket has up to two requests.
// poll asks AFD for the conditions of the registration, and exists in the state armed
// only. closePoll asks only whether the socket was closed, and exists for as long as the
// socket is registered: it distinguishes a new owner of the handle from the previous
// one. Windows offers no other way to ask for the identity of a handle.
type source struct {
	handle    backend.Handle
	base      windows.Handle // AFD's: handle itself, except with layered providers
	key       backend.Key
	mode      backend.Interest  // as registered
	want      backend.Interest  // the conditions that poll must ask for
	bits      backend.Readiness // in the state ready: its event
	poll      *request
	closePoll *request
	lost      bool // the socket was closed, so it is no longer registered

	state      state
	prev, next *source // in the list of that state
}

// state is what a source waits for between two events.
type state uint8

const (
	idle  state = iota // nothing: a one-shot after its event, or an edge after all of its events
	due                // the next Wait arms it
	armed              // AFD has its poll
	ready              // it has an event that a Wait delivers
	states
)

// list is a first-in, first-out queue of sources.
type list struct{ first, last *source }

func (l *list) push(s *source) {
	s.prev, s.next = l.last, nil
	if l.last == nil {
		l.first = s
	} else {
		l.last.next = s
	}
	l.last = s
}

func (l *list) remove(s *source) {
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

// setState moves s to the end of the list of a state.
func (q *IOCP) setState(s *source, to state) {
	q.lists[s.state].remove(s)
	s.state = to
	q.lists[to].push(s)
}

// track makes a source of the socket h. The caller sets its key and interest.
func (q *IOCP) track(h backend.Handle) (s *source, err error) {
	if !valid(h) {
		return nil, errClosedHandle
	}
	s = q.freeSources
	if s == nil {
		s = new(source)
	} else {
		q.freeSources = s.next
	}
	*s = source{handle: h, base: windows.Handle(h)}
	q.lists[idle].push(s)
	// AFD is asked first: its answer takes no lock of the file, so it never blocks.
	if s.closePoll, err = q.submit(s, afdLocalClose); errors.Is(err, errNotSocket) {
		if s.base, err = layeredHandle(s.base); err == nil {
			s.closePoll, err = q.submit(s, afdLocalClose)
		}
	}
	if err != nil {
		q.recycle(s)
		return nil, err
	}
	q.sources[h] = s
	return s, nil
}

// untrack cancels the requests of s and forgets it. closed reports that its socket had
// been closed before.
func (q *IOCP) untrack(s *source) (closed bool, err error) {
	poll, closePoll := s.poll, s.closePoll
	s.poll, s.closePoll = nil, nil
	delete(q.sources, s.handle)
	q.recycle(s)
	return q.cancel(closePoll, poll)
}

// dropClosed forgets s, whose socket was found closed. It does not wait for the packets
// of the requests.
func (q *IOCP) dropClosed(s *source) {
	for _, r := range []*request{s.poll, s.closePoll} {
		if r != nil {
			r.source = nil
			cancelPoll(r.group.afd, r.slot)
		}
	}
	s.poll, s.closePoll, s.lost = nil, nil, true
	delete(q.sources, s.handle)
	q.recycle(s)
}

// recycle makes s available for another socket.
func (q *IOCP) recycle(s *source) {
	q.lists[s.state].remove(s)
	s.next, q.freeSources = q.freeSources, s
}

// submit starts a request about s.
func (q *IOCP) submit(s *source, events uint32) (*request, error) {
	r, err := q.requests.get()
	if err != nil {
		return nil, err
	}
	r.slot.poll = afdPoll{timeout: noTimeout, count: 1, socket: afdPollHandle{handle: s.base, events: events}}
	r.generation++
	r.source, r.pending, r.canceled, r.closed = s, true, false, false
	if err := startPoll(r.group.afd, r.slot, r.context()); err != nil {
		r.pending = false
		q.requests.put(r)
		if refusesHandle(err) {
			return nil, notASocket(s.base)
		}
		return nil, fmt.Errorf("poll request to AFD: %w", err)
	}
	return r, nil
}

// handleChanged reports that a request failed because of the handle: it was closed, or
// it belongs to something else by now.
func handleChanged(err error) bool {
	return errors.Is(err, errClosedHandle) || errors.Is(err, backend.ErrNotPollable)
}

// arm starts the poll for the conditions that s waits for.
func (q *IOCP) arm(s *source) (err error) {
	if s.poll, err = q.submit(s, pollEvents(s.want)); err == nil {
		q.setState(s, armed)
	}
	return err
}

// disarm cancels that poll, if one is pending, and leaves s idle.
func (q *IOCP) disarm(s *source) error {
	poll := s.poll
	s.poll = nil
	if s.state != idle {
		q.setState(s, idle)
	}
	_, err := q.cancel(poll)
	return err
}

// verify reports whether s still is the socket that was registered. It cancels closePoll
// and starts a new one, because the result of the old one is the answer: canceled, or
// closed.
func (q *IOCP) verify(s *source) (same bool, err error) {
	closePoll, err := q.submit(s, afdLocalClose) // about the present owner of the handle
	if err != nil && !handleChanged(err) {
		return false, err
	}
	old := s.closePoll
	s.closePoll = closePoll
	closed, err := q.cancel(old)
	if err != nil {
		return false, err
	}
	if (closed || closePoll == nil) && !s.lost {
		q.dropClosed(s)
	}
	return !s.lost, nil
}

// cancel cancels requests, which may be nil, waits until their packets have come, and
// reports whether one of the packets says that its socket was closed.
func (q *IOCP) cancel(rs ...*request) (closed bool, err error) {
	for _, r := range rs {
		if r != nil {
			r.canceled = true
			cancelPoll(r.group.afd, r.slot)
		}
	}
	for _, r := range rs {
		if r == nil {
			continue
		}
		for begin := time.Now(); r.pending; {
			if err := q.awaitPackets(); err != nil {
				return false, err
			}
			if time.Since(begin) > cancelTimeout {
				return false, errCancelStuck
			}
		}
		closed = closed || r.closed
		q.requests.put(r)
	}
	return closed, nil
}

// cancelTimeout bounds the wait for a canceled request, which the kernel ends at once.
const cancelTimeout = 10 * time.Second

var errCancelStuck = fmt.Errorf("AFD did not end a canceled request within %v", cancelTimeout)

// awaitPackets waits until some packets have been dispatched: by the Wait in progress,
// which takes them out of the port first, or else by this call.
func (q *IOCP) awaitPackets() error {
	if q.waiting {
		q.waitReturned.Wait()
		return nil
	}
	n, err := dequeue(q.port, q.changePackets[:], 10)
	q.dispatch(q.changePackets[:n])
	return err
}

// dispatch acts on packets.
func (q *IOCP) dispatch(packets []packet) {
	for i := range packets {
		switch p := &packets[i]; p.key {
		case keyWake:
			q.wakePosted.Store(false)
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

// complete acts on the packet of r.
func (q *IOCP) complete(r *request, status windows.NTStatus) {
	var events uint32
	if status == windows.STATUS_SUCCESS && r.slot.poll.count > 0 {
		events = r.slot.poll.socket.events
	}
	r.pending, r.closed = false, events&afdLocalClose != 0
	s := r.source
	switch {
	case r.canceled: // the caller of cancel waits for this
		return
	case s == nil:
	case r == s.closePoll:
		s.closePoll = nil
		if !r.closed { // canceled, but not by this package
			s.closePoll, _ = q.submit(s, afdLocalClose)
		}
		if s.closePoll == nil {
			q.dropClosed(s)
		}
	case r.closed: // closePoll reports it as well, and acts on it
		s.poll = nil
		q.setState(s, idle)
	default:
		s.poll = nil
		if s.bits = readiness(events); failed(status) && status != windows.STATUS_CANCELLED {
			s.bits = backend.ReadyError
		}
		if s.bits == 0 {
			q.setState(s, due)
		} else {
			q.setState(s, ready)
		}
	}
	q.requests.put(r)
}
