//go:build unix

package kqueue

import (
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/kq"
)

// A broken pipe is the writing end of a pipe without a reader. Kernels refuse to watch
// it, and drop the knote of a pipe that breaks while they watch it. This package reports
// such a pipe itself.

// needsReadKnote reports whether only a knote for reading tells that a pipe breaks: see
// kq.System.SilentFullPipe.
func (q *Kqueue) needsReadKnote(h backend.Handle, in backend.Interest) bool {
	return q.sys.SilentFullPipe && in.Has(backend.Writable) && !in.Has(backend.Readable) && isPipe(h)
}

// addBrokenPipe registers a broken pipe.
func (q *Kqueue) addBrokenPipe(h backend.Handle, rec *record) error {
	if !q.markBroken(h, rec, backend.ReadyWritable|backend.ReadyWriteClosed) {
		return unix.EPIPE
	}
	q.queueBroken(h, rec)
	_ = q.waker.wake() // the registration is complete even if this fails
	return nil
}

// markBroken replaces the knotes of a registration by a disabled one, and sets what to
// report for it.
func (q *Kqueue) markBroken(h backend.Handle, rec *record, ready backend.Readiness) bool {
	q.deleteKnotes(h, rec)
	q.changes = q.changes[:0]
	q.appendChanges(h, rec, readFilter, kq.Add|kq.Disable)
	if q.apply() != nil {
		return false
	}
	rec.filters, rec.broken = readFilter, ready
	return true
}

// queueBroken has the next Wait report a broken pipe.
func (q *Kqueue) queueBroken(h backend.Handle, rec *record) {
	if !rec.queued {
		rec.queued = true
		q.brokenPipes = append(q.brokenPipes, uint32(h))
	}
}

// checkBroken looks whether an event is the only one that the kernel will report: its knote
// was dropped, or comes from needsReadKnote. This package adds no one-shot knotes, but
// kernels turn a knote into one when its file will not change any more, such as a pipe whose
// reader has gone.
func (q *Kqueue) checkBroken(ev *kq.Event, rec *record, ready backend.Readiness) {
	if ev.Flags&kq.OneShot == 0 && !q.isReadKnote(ev, rec) || rec.broken != 0 {
		return
	}
	h := backend.Handle(ev.Ident)
	if q.markBroken(h, rec, ready) && rec.interest&(backend.Edge|backend.OneShot) == 0 {
		q.queueBroken(h, rec)
	}
}

// isReadKnote reports whether an event is of a knote that needsReadKnote asked for.
func (q *Kqueue) isReadKnote(ev *kq.Event, rec *record) bool {
	return ev.Filter == q.sys.Read && !rec.interest.Has(backend.Readable)
}

// reportBrokenPipes puts events of broken pipes into the batch, as far as there is room.
func (q *Kqueue) reportBrokenPipes(b *batch) {
	done := 0
	for n := len(q.brokenPipes); done < n && b.n < len(b.dst); done++ {
		fd := q.brokenPipes[done]
		rec := q.records.Get(uintptr(fd))
		rec.queued = false
		if rec.broken == 0 || rec.filters == 0 || isGone(q.probe(backend.Handle(fd), rec)) {
			continue
		}
		if !q.inBatch(b, rec) { // it is, if the pipe broke during this Wait
			b.dst[b.n] = backend.Event{Key: rec.key, Ready: rec.broken}
			b.n++
		}
		if rec.interest&(backend.Edge|backend.OneShot) == 0 {
			q.queueBroken(backend.Handle(fd), rec) // behind the others
		}
	}
	q.brokenPipes = append(q.brokenPipes[:0], q.brokenPipes[done:]...)
}
