//go:build unix || windows

package conformance_test

import (
	"errors"
	"runtime"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

// poll polls, and compares what comes with what must and may.
func (w *world) poll(capacity int, patient bool) error {
	events := w.events[capacity]
	if events == nil {
		events = epore.NewEvents(capacity)
		w.events[capacity] = events
	}
	timeout := time.Duration(0)
	if patient {
		timeout = 50 * time.Microsecond
		if w.woken > 0 || w.inside > 0 || w.setFor == 0 {
			timeout = epore.Forever
		}
		for _, s := range w.sources {
			if must, _ := s.due(); must != 0 {
				timeout = epore.Forever
			}
		}
	}
	err := w.pollFor(events, timeout)
	for begin := time.Now(); err == errLate && time.Since(begin) < fixture.Soon; {
		runtime.Gosched()
		err = w.pollFor(events, 0)
	}
	return err
}

// errLate says that an event is missing whose cause came through the network: the
// data is there a little before those who wait for it are told.
var errLate = errors.New("an event of a TCP connection is missing, or a part of it")

func (w *world) pollFor(events *epore.Events, timeout time.Duration) error {
	if err := w.p.Poll(events, timeout); err != nil {
		return w.mismatch("Poll: %v", err)
	}
	capacity := events.Cap()
	if events.Len() > capacity {
		return w.mismatch("%d events in a room of %d", events.Len(), capacity)
	}
	w.hand = events
	clear(w.loose)
	clear(w.batch)
	for ev := range events.All() {
		if twice := w.batch[ev.Token] & ev.Ready & conditions; twice != 0 {
			return w.mismatch("token %d: %v twice in a batch", ev.Token, twice)
		}
		w.batch[ev.Token] |= ev.Ready
	}
	if len(w.batch) == 0 && events.Len() > 0 {
		return w.mismatch("%d events, and none of them current", events.Len())
	}
	// What is kept alive takes room in the kernel's batch.
	return w.compare(events.Len() == capacity || len(w.kept) > 0)
}

// compare looks at what has come. What must come may be missing if there was no
// more room, but not for ever.
func (w *world) compare(noRoom bool) error {
	known, late := 0, false
	if _, ok := w.batch[wakerToken]; ok {
		known++
		if w.woken == 0 {
			return w.mismatch("an event of a waker that nobody woke")
		}
		w.woken = 0
	} else if w.woken > 0 {
		if w.woken++; !noRoom || w.woken > 9+len(w.kept) {
			return w.mismatch("no event of the waker, at the %d. Poll", w.woken-1)
		}
	}
	if _, ok := w.batch[boxToken]; ok {
		known++
		if w.inside == 0 {
			return w.mismatch("an event of a mailbox that is empty")
		}
		w.boxLate = 0
	} else if w.inside > 0 {
		if w.boxLate++; !noRoom || w.boxLate > 8+len(w.kept) {
			return w.mismatch("no event of the mailbox, at the %d. Poll", w.boxLate)
		}
	}
	if _, ok := w.batch[timerToken]; ok {
		known++
		if w.setFor != 0 {
			return w.mismatch("an event of a timer that is not due")
		}
		w.setFor, w.tmLate = unset, 0
	} else if w.setFor == 0 {
		if w.tmLate++; !noRoom || w.tmLate > 4+len(w.kept) {
			return w.mismatch("no event of the timer, at the %d. Poll", w.tmLate)
		}
	}
	for i, s := range w.sources {
		if s.reg == nil {
			continue
		}
		got, came := w.batch[s.reg.token]
		must, may := s.due()
		if must == 0 {
			s.reg.missed = 0
		}
		if !came {
			if must != 0 && !noRoom && (s.travels || s.reg.polled) {
				late = true
				continue
			}
			if s.reg.missed++; must != 0 && (!noRoom || s.reg.missed > 2*(len(w.sources)+1+len(w.kept))) {
				return w.mismatch("source %d (%s), token %d, %v: nothing came, and %v must", i, s.here, s.reg.token, s.reg.interest, must)
			}
			continue
		}
		known++
		s.reg.missed = 0
		oneShot := s.reg.interest.Has(epore.OneShot)
		switch {
		case got&^may != 0:
			return w.mismatch("source %d (%s), token %d, %v: %v came, and only %v may", i, s.here, s.reg.token, s.reg.interest, got, may)
		case !oneShot && !noRoom && must&^got != 0 && s.reg.polled:
			late = true
		case !oneShot && !noRoom && must&^got != 0: // one-shot: any of what may come
			return w.mismatch("source %d (%s), token %d, %v: %v came, and %v must", i, s.here, s.reg.token, s.reg.interest, got, must)
		}
		s.reg.shot = oneShot
		s.reg.armed &^= got
		s.reg.changed &^= got
		s.reg.happened = 0
		s.happens()
	}
	if known != len(w.batch) {
		return w.mismatch("tokens of nothing registered: %v", w.batch)
	}
	if late {
		return errLate
	}
	return nil
}

// inHand compares what is left of the batch in hand with what should be.
func (w *world) inHand() error {
	if w.hand == nil {
		return nil
	}
	left := make(map[epore.Token]epore.Readiness)
	for ev := range w.hand.All() {
		left[ev.Token] |= ev.Ready
	}
	for token, bits := range w.batch {
		if left[token] != bits {
			return w.mismatch("in hand, token %d: %v, was %v", token, left[token], bits)
		}
		delete(left, token)
	}
	for token, bits := range left {
		if w.loose[token] != bits {
			return w.mismatch("in hand, token %d: %v, which is not registered any more", token, bits)
		}
	}
	return nil
}
