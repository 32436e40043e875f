//go:build unix

package kqueue

import (
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/kq"
)

// filters is a set of the filters of a descriptor.
type filters uint8

const (
	readFilter filters = 1 << iota
	writeFilter
	urgentFilter
)

// filtersOf translates an interest.
func filtersOf(in backend.Interest) (f filters) {
	if in.Has(backend.Readable) {
		f |= readFilter
	}
	if in.Has(backend.Writable) {
		f |= writeFilter
	}
	if in.Has(backend.Priority) {
		f |= urgentFilter
	}
	return f
}

// appendChanges lists a change of the knotes of filters f.
func (q *Kqueue) appendChanges(h backend.Handle, rec *record, f filters, flags uint32) {
	// Changes other than deletions write the generation into the knote.
	ev := kq.Event{Ident: uint64(h), Flags: flags, Udata: rec.generation}
	if f&readFilter != 0 {
		ev.Filter = q.sys.Read
		q.changes = append(q.changes, ev)
	}
	if f&writeFilter != 0 {
		ev.Filter = q.sys.Write
		q.changes = append(q.changes, ev)
	}
	if f&urgentFilter != 0 {
		ev.Filter, ev.Fflags = q.sys.Except, q.sys.OOB
		q.changes = append(q.changes, ev)
	}
}

// apply hands the listed changes to the kernel. Without room for events the kernel
// returns the first error and skips the changes after it. Receipts would tell more, but
// old systems do not have them, and DragonFly writes beyond the room for them. A signal
// interrupts the call after the changes were applied.
func (q *Kqueue) apply() error {
	_, err := q.kernel.Kevent(q.fd, q.changes, nil, 0)
	if err == unix.EINTR {
		return nil
	}
	return err
}

// changeEach changes all knotes of a record one by one, and ignores failures: some of
// the knotes may be gone.
func (q *Kqueue) changeEach(h backend.Handle, rec *record, flags uint32) {
	for f := readFilter; f <= urgentFilter; f <<= 1 {
		if rec.filters&f != 0 {
			q.changes = q.changes[:0]
			q.appendChanges(h, rec, f, flags)
			_ = q.apply()
		}
	}
}

// deleteKnotes deletes the knotes of a record that exist.
func (q *Kqueue) deleteKnotes(h backend.Handle, rec *record) {
	q.changeEach(h, rec, kq.Delete)
	rec.filters = 0
}

// disarm disables the knotes of a one-shot registration that has had its event. The
// kernel still knows from them that the descriptor is registered.
func (q *Kqueue) disarm(h backend.Handle, rec *record) {
	rec.fired = true
	q.changeEach(h, rec, kq.Disable)
}

// probe asks the kernel whether a knote exists, without changing it: to enable an
// enabled knote, or to disable a disabled one, has no effect.
func (q *Kqueue) probe(h backend.Handle, rec *record) error {
	flag := uint32(kq.Enable)
	if rec.fired || rec.broken != 0 {
		flag = kq.Disable
	}
	q.changes = q.changes[:0]
	q.appendChanges(h, rec, rec.filters&-rec.filters, flag) // any one of them
	return q.apply()
}
