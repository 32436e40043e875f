package sim

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/simfd"
)

// Backend returns a new queue of the Host, for one Poll. Create the queues of a World in an
// order that does not vary, because the draws go by it.
func (h *Host) Backend() backend.Backend {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.queues++
	q := &queue{w: h.w, host: h, watches: make(map[*node]*watch),
		random: rand.New(rand.NewPCG(h.w.seed, uint64(h.number)<<32|uint64(h.queues)))}
	q.waiter = h.w.newWaiter(fmt.Sprintf("%s/%d", h.name, h.queues), h)
	q.waiter.ready = q.hasReady
	q.gone = h.down
	return q
}

// queue is a backend and a backend.Quiescer. Its fields are under the World's lock.
type queue struct {
	*waiter
	w       *World
	host    *Host
	random  *rand.Rand
	watches map[*node]*watch
	order   []*watch // those that spurious events may be drawn from, unless deleted
	ready   []*watch // those that may have something to report, in the order of their turns
}

// watch is a registration. Its edges are weak: a condition that was reported is reported
// again only after Add, Modify, or an operation that would have blocked, which is the least
// that rule M2 of the contract promises.
type watch struct {
	q      *queue
	node   *node
	key    backend.Key
	in     backend.Interest
	armed  backend.Readiness // what may be reported; of a one-shot, zero once it has fired
	listed bool              // it is in ready
	gone   bool
}

var _ backend.Quiescer = (*queue)(nil)

func (q *queue) Name() string { return "sim" }
func (q *queue) Open() error  { return nil }

func (q *queue) Capabilities() backend.Capabilities {
	return backend.Capabilities{
		Interests:  backend.Readable | backend.Writable | backend.Edge | backend.OneShot,
		Resolution: 1,
	}
}

// find returns the socket that h names.
func (q *queue) find(h backend.Handle) (*node, error) {
	s, ok := simfd.Get(h).(interface{ base() *node })
	switch {
	case int(h) < 0:
		return nil, errBadDescriptor
	case !simfd.Is(h):
		return nil, backend.ErrNotPollable // a descriptor of the real system
	case !ok:
		return nil, errBadDescriptor
	case s.base().w != q.w:
		return nil, fmt.Errorf("a socket of another World: %w", backend.ErrNotPollable)
	}
	return s.base(), nil
}

func (q *queue) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	q.w.mu.Lock()
	defer q.w.mu.Unlock()
	n, err := q.find(h)
	if err != nil {
		return err
	}
	if q.watches[n] != nil {
		return fs.ErrExist
	}
	c := &watch{q: q, node: n}
	q.watches[n] = c
	n.watches = append(n.watches, c)
	q.order = append(q.order, c)
	c.arm(k, in)
	q.progress()
	return nil
}

func (q *queue) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	q.w.mu.Lock()
	defer q.w.mu.Unlock()
	n, err := q.find(h)
	if err != nil {
		return fs.ErrNotExist
	}
	c := q.watches[n]
	if c == nil {
		return fs.ErrNotExist
	}
	c.arm(k, in)
	q.progress()
	return nil
}

func (q *queue) Delete(h backend.Handle) error {
	q.w.mu.Lock()
	defer q.w.mu.Unlock()
	n, err := q.find(h)
	if err != nil || q.watches[n] == nil {
		return fs.ErrNotExist
	}
	q.forget(q.watches[n])
	q.progress()
	return nil
}

func (q *queue) forget(c *watch) {
	c.gone = true
	delete(q.watches, c.node)
	c.node.watches = slices.DeleteFunc(c.node.watches, func(other *watch) bool { return other == c })
	if len(q.order) > 2*len(q.watches)+16 {
		q.order = slices.DeleteFunc(q.order, func(c *watch) bool { return c.gone })
	}
}

// arm gives c a key and an interest, and lets it report everything.
func (c *watch) arm(k backend.Key, in backend.Interest) {
	c.key, c.in, c.armed = k, in, ^backend.Readiness(0)
	c.look()
}

// look lists c if it has something to report.
func (c *watch) look() {
	if !c.listed && !c.gone && c.report() != 0 {
		c.listed = true
		c.q.ready = append(c.q.ready, c)
		c.q.w.changed()
	}
}

// report returns what c would report now.
func (c *watch) report() backend.Readiness {
	r := c.node.readiness()
	if !c.in.Has(backend.Readable) && !r.Has(backend.ReadyWriteClosed) {
		r &^= backend.ReadyReadClosed // as on epoll: a half-close does not disturb a writer
	}
	r = r.For(c.in)
	if c.in.Has(backend.Edge) && r&c.armed == 0 {
		return 0
	}
	if c.in.Has(backend.OneShot) && c.armed == 0 {
		return 0
	}
	return r
}

// wouldBlock arms an edge again, after an operation that would have blocked.
func (c *watch) wouldBlock(in backend.Interest) {
	if c.in.Has(backend.OneShot) || !c.in.Has(backend.Edge) {
		return
	}
	if in.Has(backend.Readable) {
		c.armed |= backend.ReadyReadable | backend.ReadyReadClosed | backend.ReadyError
	}
	if in.Has(backend.Writable) {
		c.armed |= backend.ReadyWritable | backend.ReadyWriteClosed | backend.ReadyError
	}
}

// hasReady reports whether a Wait would find an event. Called with the lock held.
func (q *queue) hasReady() bool {
	for len(q.ready) > 0 {
		c := q.ready[0]
		if !c.gone && c.report() != 0 {
			return true
		}
		c.listed = false
		q.ready = q.ready[1:]
	}
	return false
}

// Wait collects events. The core calls it with timeout zero, at rest.
func (q *queue) Wait(dst []backend.Event, _ time.Duration) (n int, err error) {
	q.w.mu.Lock()
	defer q.w.mu.Unlock()
	f := &q.w.defaults.faults
	room := len(dst)
	if f.smallBatches > 0 && q.random.Float64() < f.smallBatches {
		room = 1 + q.random.IntN(min(room, 4))
	}
	var again []*watch
	for n < room && q.hasReady() {
		c := q.ready[0]
		q.ready = q.ready[1:]
		r := c.report()
		c.listed = false
		n += q.deliver(dst[n:room], c, r, f)
		switch {
		case c.in.Has(backend.OneShot):
			c.armed = 0
		case c.in.Has(backend.Edge):
			c.armed &^= r
		default:
			c.listed = true
			again = append(again, c)
		}
	}
	q.ready = append(q.ready, again...) // the others come first
	if f.spurious > 0 && n < room && len(q.order) > 0 && q.random.Float64() < f.spurious {
		n += q.spurious(dst[n:])
	}
	if f.shuffle {
		q.random.Shuffle(n, func(i, j int) { dst[i], dst[j] = dst[j], dst[i] })
	}
	if n > 0 {
		q.spins()
	}
	return n, nil
}

// deliver stores an event, or two, in dst, which is not empty.
func (q *queue) deliver(dst []backend.Event, c *watch, r backend.Readiness, f *faults) int {
	const hints = backend.ReadyReadClosed | backend.ReadyWriteClosed
	if r&hints != 0 && f.missingHints > 0 && q.random.Float64() < f.missingHints {
		if without := r &^ hints; without != 0 {
			r = without
		}
	}
	q.w.record(record{what: delivered, queue: q.name, ready: r, from: c.node.name()})
	const both = backend.ReadyReadable | backend.ReadyWritable
	if r == both && !c.in.Has(backend.OneShot) && len(dst) > 1 && f.split > 0 && q.random.Float64() < f.split {
		dst[0] = backend.Event{Key: c.key, Ready: backend.ReadyWritable}
		dst[1] = backend.Event{Key: c.key, Ready: backend.ReadyReadable}
		return 2
	}
	dst[0] = backend.Event{Key: c.key, Ready: r}
	return 1
}

// spurious stores an event of a source that is not ready, if it draws one.
func (q *queue) spurious(dst []backend.Event) int {
	c := q.order[q.random.IntN(len(q.order))]
	r := backend.Readiness(c.in & (backend.Readable | backend.Writable))
	if c.gone || c.listed || r == 0 || c.in.Has(backend.OneShot) || c.node.readiness()&r != 0 {
		return 0
	}
	if r == backend.ReadyReadable|backend.ReadyWritable {
		r = []backend.Readiness{backend.ReadyReadable, backend.ReadyWritable}[q.random.IntN(2)]
	}
	q.w.record(record{what: delivered, queue: q.name, ready: r, from: c.node.name(), text: "spurious"})
	dst[0] = backend.Event{Key: c.key, Ready: r}
	return 1
}

func (q *queue) WaitQuiet(timeout time.Duration, awake func() bool) error {
	return q.w.wait(q.waiter, timeout, awake)
}

func (q *queue) Wake() error {
	q.w.mu.Lock()
	defer q.w.mu.Unlock()
	q.woken = true
	q.w.changed()
	return nil
}

func (q *queue) Close() error {
	q.w.mu.Lock()
	defer q.w.mu.Unlock()
	for _, c := range q.watches {
		c.gone = true
		c.node.watches = slices.DeleteFunc(c.node.watches, func(other *watch) bool { return other == c })
	}
	q.watches, q.ready, q.order = nil, nil, nil
	q.w.remove(q.waiter)
	return nil
}

// spinning is how many turns with events, without any progress of the host at one instant,
// are taken for a loop that spins.
const spinning = 1000

// progress records that the program of the host did something that changes the state of a
// socket or of a registration. Called with the lock held.
func (q *queue) progress() { q.host.spinning = 0 }

// spins counts a turn with events, and reports a loop that does nothing about them.
func (q *queue) spins() {
	h := q.host
	if now := q.w.now(); now-h.spinningSince > time.Duration(spinning)*creep {
		h.spinning, h.spinningSince = 0, now
	}
	if h.spinning++; h.spinning == spinning {
		text := fmt.Sprintf("%s spins: %d times in succession it got events and did nothing about them", q.name, spinning)
		go q.w.fail("%s", text)
	}
}
