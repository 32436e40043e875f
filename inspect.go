package epore

import (
	"net"
	"slices"
	"sync/atomic"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/slots"
)

// inspection finds the sources that report a thing only once (see [backend.Inspector]), so
// that no report is lost to another poll of the queue. Sockets never do. For a source of a
// kind that the core does not know, the queue is asked, once for each registration.
//
// Asking costs a system call, so it is put off until the Poll is about to sleep, when it has
// the time. Only if the Poll sleeps already is it done by Register. Because the first poll
// of the file was that of Register, its report may be gone by then. So the registration gets
// one event in any case, which may be spurious.
type inspection struct {
	queue backend.Inspector // nil if the queue loses nothing

	// due says that there is something in todo, without the lock.
	due atomic.Bool
	// once is the number of slots that are in isOnce, without the lock.
	once atomic.Int32
	// ready is the number of events in events, without the lock.
	ready atomic.Int32

	// What follows is under the table's lock.

	todo   []uint32 // slots to be asked about
	isTodo bitmap   // the same as a set
	isOnce bitmap   // the slots of sources that report a thing only once
	events []backend.Event
}

// bitmap is a set of slots.
type bitmap []uint64

func (b bitmap) has(i uint32) bool { return int(i/64) < len(b) && b[i/64]&(1<<(i%64)) != 0 }

func (b *bitmap) set(i uint32) {
	for int(i/64) >= len(*b) {
		*b = append(*b, 0)
	}
	(*b)[i/64] |= 1 << (i % 64)
}

func (b bitmap) clear(i uint32) { b[i/64] &^= 1 << (i % 64) }

// knownKind reports whether s is of a kind that never reports a thing only once. The source of
// an FD is nil here.
func knownKind(s Source) bool {
	switch s.(type) {
	case *net.TCPConn, *net.UDPConn, *net.UnixConn, *net.IPConn, *net.TCPListener, *net.UnixListener:
		return true
	}
	return false
}

// mustInspect reports whether a source of an unknown kind that was registered in slot i must be
// inspected: unless the slot is in todo already, from an earlier registration.
func (p *Poll) mustInspect(i uint32) bool {
	q := &p.inspection
	return !q.isTodo.has(i) || p.sleeping.Load() != awake
}

// inspectLater notes that the source in slot i, which has just been registered, must be
// asked about. It requires the table's lock.
func (p *Poll) inspectLater(i uint32) {
	q := &p.inspection
	if !q.isTodo.has(i) {
		q.isTodo.set(i)
		q.todo = append(q.todo, i)
		if len(q.todo) == 1 {
			q.due.Store(true)
		}
	}
	if p.sleeping.Load() != awake {
		p.inspect()
		if len(q.events) > 0 {
			_ = p.interruptLocked()
		}
	}
}

// spare takes slot i out of todo. The slot is there from an earlier registration; the present
// one is of a Process or a Hook, which no inspection may give an event. It requires the table's
// lock.
func (q *inspection) spare(i uint32) {
	if q.isTodo.has(i) {
		q.isTodo.clear(i)
		q.todo = slices.DeleteFunc(q.todo, func(other uint32) bool { return other == i })
	}
}

// inspectDue inspects what is due.
func (p *Poll) inspectDue() {
	p.slots.Lock()
	defer p.slots.Unlock()
	p.inspect()
}

// inspect asks about all slots in todo. It requires the table's lock.
func (p *Poll) inspect() {
	q := &p.inspection
	for _, i := range q.todo {
		q.isTodo.clear(i)
		h, key, in, registered := p.slots.Handle(i)
		if !registered || q.isOnce.has(i) {
			continue
		}
		once, ready := q.queue.Inspect(h, key, in)
		if !once {
			continue
		}
		q.isOnce.set(i)
		q.once.Add(1)
		p.deliver(key, in, ready|Readiness(in&backend.Conditions))
	}
	q.todo = q.todo[:0]
	q.due.Store(false)
}

// deliver gives the registration under key an event of what was taken from its source. It
// requires the table's lock.
func (p *Poll) deliver(key backend.Key, in Interest, ready Readiness) {
	if in.Has(OneShot) {
		// This is its one event, unless the loop has had that. What the kernel reports
		// under the old key is stale.
		var had bool
		if key, had = p.slots.Renew(key); had {
			return
		}
	}
	q := &p.inspection
	q.events = append(q.events, backend.Event{Key: key, Ready: ready})
	q.ready.Store(int32(len(q.events)))
}

// marked returns in with the mark that has slot i record whether its event was delivered, if
// it is one-shot and its source may be inspected: an inspection gives no second event. It
// requires the table's lock.
func (q *inspection) marked(i uint32, in Interest) Interest {
	if in.Has(OneShot) && (q.isTodo.has(i) || q.isOnce.has(i)) {
		in |= slots.RecordsDelivery
	}
	return in
}

// takeInspected moves events of inspected sources to room. The waiter calls it.
func (p *Poll) takeInspected(room []backend.Event) int {
	p.slots.Lock()
	defer p.slots.Unlock()
	q := &p.inspection
	n := copy(room, q.events)
	p.tookInspected = n > 0
	q.events = append(q.events[:0], q.events[n:]...)
	q.ready.Store(int32(len(q.events)))
	return n
}

// mergeRepeated merges the events of one registration, and returns how many events are left:
// the queue may have reported what an inspection found, too.
func mergeRepeated(batch []backend.Event) (n int) {
	at := make(map[backend.Key]int, len(batch))
	for _, ev := range batch {
		if i, repeated := at[ev.Key]; repeated {
			batch[i].Ready |= ev.Ready
			continue
		}
		at[ev.Key] = n
		batch[n] = ev
		n++
	}
	return n
}

// forgetInspection is called when the registration in slot i ends. It requires the table's
// lock.
func (p *Poll) forgetInspection(i uint32) {
	if q := &p.inspection; q.isOnce.has(i) {
		q.isOnce.clear(i)
		q.once.Add(-1)
	}
}

// inspectBefore asks a source that reports a thing only once, before Modify polls it. It also
// asks for what the old registration waits for, because Modify may fail. It requires the
// table's lock.
func (p *Poll) inspectBefore(i uint32, h backend.Handle, in Interest) Readiness {
	if q := &p.inspection; q.isOnce.has(i) {
		key, was := p.slots.Registration(i)
		if !in.Has(Exclusive) { // which the queue may not support together with the others
			in |= was & backend.Conditions
		}
		_, ready := q.queue.Inspect(h, key, in)
		return ready
	}
	return 0
}

// inspectAfter delivers what inspectBefore was told: to the new registration, or to the old
// one if it could not be replaced. It requires the table's lock.
func (p *Poll) inspectAfter(i uint32, ready Readiness) {
	key, in := p.slots.Registration(i)
	if ready = ready.For(in); ready == 0 {
		return
	}
	p.deliver(key, in, ready)
	_ = p.interruptLocked()
}
