//go:build unix

package kqueue

import (
	"time"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/kq"
)

const (
	// maxTimeout is the longest timeout that all kernels honor.
	maxTimeout = 1_000_000 * time.Second
	// maxCalls bounds the calls to the kernel of one Wait; a batch needs far fewer.
	maxCalls = 64
)

// batch is what a Wait has collected so far.
type batch struct {
	dst []backend.Event
	n   int
	// merged counts the kernel's events of the latest call that took no room in dst.
	merged int
	// repeated says that one of them reported what dst had already.
	repeated bool
}

// Wait implements [backend.Backend].
func (q *Kqueue) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	if len(dst) > len(q.events) {
		q.events = make([]kq.Event, len(dst))
	}
	b := batch{dst: dst}
	brokenLast := q.begin(&b)
	if b.n > 0 || brokenLast {
		timeout = 0
	}
	err := q.collect(&b, timeout)
	if brokenLast {
		q.mu.Lock()
		q.reportBrokenPipes(&b)
		q.mu.Unlock()
	}
	if b.n > 0 {
		err = nil // the next Wait meets it again
	}
	return b.n, err
}

// begin begins a batch. If broken pipes have events, it puts them into the batch first,
// or reports that they come last.
func (q *Kqueue) begin(b *batch) (brokenLast bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waitCount++
	if len(q.brokenPipes) == 0 {
		return false
	}
	q.brokenFirst = !q.brokenFirst
	if q.brokenFirst {
		q.reportBrokenPipes(b)
	}
	return !q.brokenFirst
}

// collect moves the kernel's events into the batch.
func (q *Kqueue) collect(b *batch, timeout time.Duration) error {
	for call := 0; b.n < len(b.dst) && call < maxCalls; call++ {
		room := len(b.dst) - b.n
		n, err := q.kernel.Kevent(q.fd, nil, q.events[:room], min(timeout, maxTimeout))
		if err != nil {
			return err
		}
		b.merged = 0
		q.merge(b, q.events[:n])
		// Fewer events than there is room for mean that no more are ready. The kernel
		// moves what it reports behind the rest, so an event that comes again means that
		// all others have come.
		if n < room || b.merged == 0 || b.repeated {
			return nil
		}
		timeout = 0
	}
	return nil
}

// merge moves events of the kernel into the batch, and drops stale ones.
func (q *Kqueue) merge(b *batch, events []kq.Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range events {
		ev := &events[i]
		if ev.Filter == q.sys.Proc { // first, because its number is a PID
			q.mergeProcess(b, ev)
			continue
		}
		if q.waker.consume(ev) {
			b.merged++
			continue
		}
		rec := q.records.Get(uintptr(ev.Ident))
		if rec == nil || rec.filters == 0 || rec.generation != ev.Udata || ev.Flags&kq.Error != 0 {
			b.merged++ // stale
			continue
		}
		ready := q.readiness(ev)
		if q.isReadKnote(ev, rec) {
			if ev.Flags&kq.EOF == 0 {
				b.merged++ // a named pipe with data that its reader has not read yet
				continue
			}
			ready = backend.ReadyWritable | backend.ReadyWriteClosed
		}
		switch {
		case q.inBatch(b, rec):
			// Two knotes, one for reading and one for writing, make one event.
			b.merged++
			b.repeated = b.repeated || b.dst[rec.index].Ready.Has(ready)
			b.dst[rec.index].Ready |= ready
			q.checkBroken(ev, rec, b.dst[rec.index].Ready)
			continue
		case rec.fired:
			b.merged++
			continue
		}
		b.dst[b.n] = backend.Event{Key: rec.key, Ready: ready}
		rec.lastWait, rec.index = q.waitCount, uint32(b.n)
		b.n++
		if rec.interest.Has(backend.OneShot) {
			q.disarm(backend.Handle(ev.Ident), rec)
		}
		q.checkBroken(ev, rec, ready)
	}
}

// inBatch reports whether the batch has an event of a registration, at rec.index.
func (q *Kqueue) inBatch(b *batch, rec *record) bool {
	return rec.lastWait == q.waitCount && rec.index < uint32(b.n) && b.dst[rec.index].Key == rec.key
}

// readiness translates an event.
func (q *Kqueue) readiness(ev *kq.Event) (r backend.Readiness) {
	ended := ev.Flags&kq.EOF != 0
	switch ev.Filter {
	case q.sys.Read:
		r = backend.ReadyReadable
		if ended {
			r |= backend.ReadyReadClosed
		}
	case q.sys.Write:
		r = backend.ReadyWritable
		if ended {
			r |= backend.ReadyWriteClosed
		}
	default:
		// OpenBSD reports the end of a stream with this filter, too, without urgent data.
		if ev.Fflags&q.sys.OOB != 0 {
			r = backend.ReadyPriority
		}
		if ended {
			r |= backend.ReadyReadClosed
		}
		return r
	}
	if ended && ev.Fflags != 0 { // the pending error, which stays pending
		r |= backend.ReadyError
	}
	return r
}
