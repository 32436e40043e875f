package sim

import "time"

// event is something that happens at a time, other than by a turn.
type event struct {
	at   time.Duration
	host int // events of one time are ordered by who made them
	seq  int
	do   func()
}

func (e *event) before(other *event) bool {
	switch {
	case e.at != other.at:
		return e.at < other.at
	case e.host != other.host:
		return e.host < other.host
	}
	return e.seq < other.seq
}

// eventHeap is a binary heap, the earliest event first.
type eventHeap []event

func (h eventHeap) earliest() time.Duration {
	if len(h) == 0 {
		return never
	}
	return h[0].at
}

func (h *eventHeap) push(e event) {
	*h = append(*h, e)
	s := *h
	for i := len(s) - 1; i > 0; {
		parent := (i - 1) / 2
		if !s[i].before(&s[parent]) {
			break
		}
		s[i], s[parent] = s[parent], s[i]
		i = parent
	}
}

func (h *eventHeap) pop() event {
	s := *h
	top := s[0]
	last := len(s) - 1
	s[0], s[last] = s[last], event{}
	s = s[:last]
	*h = s
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && s[child+1].before(&s[child]) {
			child++
		}
		if !s[child].before(&s[i]) {
			break
		}
		s[i], s[child] = s[child], s[i]
		i = child
	}
	return top
}

// apply does what is due, and what becomes due by that.
func (h *eventHeap) apply(now time.Duration) {
	for len(*h) > 0 && (*h)[0].at <= now {
		h.pop().do()
	}
}

// after schedules something that the host does. Called with the lock held.
func (h *Host) after(d time.Duration, do func()) { h.at(h.w.now()+d, do) }

func (h *Host) at(t time.Duration, do func()) {
	h.events++
	h.w.events.push(event{t, h.number, h.events, do})
	h.w.changed()
}
