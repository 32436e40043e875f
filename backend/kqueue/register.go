//go:build unix

package kqueue

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/kq"
)

// Add implements [backend.Backend].
//
// The kernel cannot add a knote on the condition that there is none: it would change the
// existing one. But it refuses to enable a knote that does not exist, and it drops the
// knotes of a descriptor when that is closed, whatever has its number afterwards.
func (q *Kqueue) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if h == backend.Handle(q.fd) || q.waker.has(h) {
		return fmt.Errorf("a kqueue cannot watch itself: %w", unix.EINVAL)
	}
	err := checkPollable(h)
	rec := q.record(h)
	if rec != nil && err == nil {
		switch probe := q.probe(h, rec); {
		case probe == nil:
			return unix.EEXIST
		case !isGone(probe):
			return probe
		}
	}
	if rec != nil {
		rec.filters = 0 // the descriptor that was registered is closed
	}
	if err != nil {
		return err
	}
	if rec == nil {
		rec = q.records.Add(uintptr(h))
	}
	q.changes = q.changes[:0]
	if err := q.addKnotes(h, rec, k, in); err != nil {
		return q.translateRefusal(err)
	}
	return nil
}

// Modify implements [backend.Backend].
//
// To add a knote that exists changes neither its mode nor whether it is disabled, so the
// old knotes are deleted first. To add a knote reports what is ready, so nothing that
// happens in between is lost.
func (q *Kqueue) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	rec, err := q.registered(h)
	if err != nil {
		return err
	}
	q.changes = q.changes[:0]
	q.appendChanges(h, rec, rec.filters, kq.Delete)
	if err := q.addKnotes(h, rec, k, in); err != nil {
		if isGone(err) {
			return err
		}
		return fmt.Errorf("%w: %w", backend.ErrLost, q.translateRefusal(err))
	}
	return nil
}

// Delete implements [backend.Backend].
func (q *Kqueue) Delete(h backend.Handle) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	rec, err := q.registered(h)
	if err != nil {
		return err
	}
	q.changes = q.changes[:0]
	q.appendChanges(h, rec, rec.filters, kq.Delete)
	if err = q.apply(); err != nil {
		q.deleteKnotes(h, rec) // the kernel skipped what follows the failed change
	}
	rec.filters = 0
	return err
}

// registered returns the record of h if h is registered as far as this package knows.
func (q *Kqueue) registered(h backend.Handle) (*record, error) {
	if rec := q.record(h); rec != nil {
		return rec, nil
	}
	if err := checkPollable(h); errors.Is(err, unix.EBADF) {
		return nil, err
	}
	return nil, unix.ENOENT
}

// record returns the record of h, or nil if h has no knotes.
func (q *Kqueue) record(h backend.Handle) *record {
	if uint64(h) > math.MaxInt32 {
		return nil
	}
	if rec := q.records.Get(uintptr(h)); rec != nil && rec.filters != 0 {
		return rec
	}
	return nil
}

// addKnotes applies the listed changes and adds the knotes of a registration, either all
// or none.
func (q *Kqueue) addKnotes(h backend.Handle, rec *record, k backend.Key, in backend.Interest) error {
	q.generation++
	rec.key, rec.interest, rec.generation = k, in, q.generation
	rec.fired, rec.broken = false, 0
	had := rec.filters
	rec.filters = filtersOf(in)
	flags := uint32(kq.Add)
	if in.Has(backend.Edge) {
		flags |= kq.Clear
	}
	q.appendChanges(h, rec, rec.filters, flags)
	if q.needsReadKnote(h, in) {
		rec.filters |= readFilter
		q.appendChanges(h, rec, readFilter, kq.Add|kq.Clear)
	}
	err := q.apply()
	if err != nil {
		// The kernel stops at the first change that fails, which may be a deletion.
		rec.filters |= had
		q.deleteKnotes(h, rec)
	}
	// NetBSD answers EBADF for an open descriptor.
	if in.Has(backend.Writable) && (err == unix.EPIPE || err == unix.EBADF) && isPipe(h) {
		return q.addBrokenPipe(h, rec)
	}
	return err
}

// isGone reports that a change found no knote because the descriptor was closed.
func isGone(err error) bool { return err == unix.ENOENT || err == unix.EBADF }

// translateRefusal translates the kernel's error for a descriptor that it cannot watch.
func (q *Kqueue) translateRefusal(err error) error {
	switch {
	case err == unix.ENODEV, err == unix.EINVAL, err == unix.EPERM, err == unix.EOPNOTSUPP, err == unix.ENOTSUP:
		return fmt.Errorf("the kqueue of %s does not take it: %w: %w", q.sys.Name, backend.ErrNotPollable, err)
	}
	return err
}

// checkPollable refuses regular files, directories and block devices. Some kernels take
// them, and then report nothing at the end of the file.
func checkPollable(h backend.Handle) error {
	if uint64(h) > math.MaxInt32 {
		return unix.EBADF // the kernel would use the lower half only
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(h), &st); err != nil {
		return err
	}
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFBLK:
		return fmt.Errorf("%w: %w", backend.ErrNotPollable, unix.EPERM)
	}
	return nil
}

// isPipe reports whether h is open and is a pipe.
func isPipe(h backend.Handle) bool {
	var st unix.Stat_t
	return unix.Fstat(int(h), &st) == nil && uint32(st.Mode)&unix.S_IFMT == unix.S_IFIFO
}
