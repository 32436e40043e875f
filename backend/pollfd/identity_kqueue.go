//go:build unix

package pollfd

import (
	"fmt"
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/kq"
)

// kqueueIdentities uses a kqueue that nothing waits on. It has a disabled knote for each
// registered file, which the kernel drops when the descriptor is closed. That is exact, and
// fstat(2) is not: on FreeBSD and NetBSD all sockets have device 0 and inode 0, and on NetBSD
// all pipes. Files that the kernel does not take, such as some devices, have the identities
// of fstat(2).
type kqueueIdentities struct {
	stat   statIdentities
	kernel kq.Kernel
	fd     int // of the kqueue, plus 1; 0 if there is none yet
}

// hasKnote is the identity of the files that have a knote.
var hasKnote = fileID{kind: 1}

// identitiesOn returns the best identities of a system: those of its kqueue, if it has one.
func identitiesOn(kernel kq.Kernel, stat statIdentities) identities {
	if kernel == nil {
		return stat
	}
	return &kqueueIdentities{stat: stat, kernel: kernel}
}

func (q *kqueueIdentities) record(h backend.Handle, was fileID, known bool) (fileID, error) {
	if known && was == hasKnote {
		switch err := q.change(h, kq.Disable); {
		case err == nil:
			return was, unix.EEXIST
		case !isGone(err):
			return was, err
		}
		known = false
	}
	id, err := q.stat.record(h, was, known)
	if err != nil {
		return id, err
	}
	if q.fd == 0 {
		fd, err := q.kernel.Kqueue()
		if err != nil {
			return id, fmt.Errorf("kqueue that records which files are registered: %w", err)
		}
		q.fd = fd + 1
	}
	switch err := q.change(h, kq.Add|kq.Disable); err {
	case nil:
		return hasKnote, nil
	case unix.EBADF, unix.ENOMEM:
		return id, err
	default:
		return id, nil
	}
}

func (q *kqueueIdentities) check(h backend.Handle, was fileID) error {
	if was != hasKnote {
		return q.stat.check(h, was)
	}
	return q.change(h, kq.Disable)
}

func (q *kqueueIdentities) forget(h backend.Handle, was fileID) error {
	if was != hasKnote {
		return q.stat.forget(h, was)
	}
	return q.change(h, kq.Delete)
}

func (q *kqueueIdentities) unknown(h backend.Handle) error { return q.stat.unknown(h) }

func (q *kqueueIdentities) close() error {
	if q.fd == 0 {
		return nil
	}
	fd := q.fd - 1
	q.fd = 0
	return q.kernel.Close(fd)
}

// changes has room for a change, because what is passed to an interface is allocated.
var changes = sync.Pool{New: func() any { return new([1]kq.Event) }}

// change changes the knote of h. To disable a disabled knote only tells whether it exists.
func (q *kqueueIdentities) change(h backend.Handle, flags uint32) error {
	if uint64(h) > math.MaxInt32 {
		return unix.EBADF // the kernel would use the lower half only
	}
	c := changes.Get().(*[1]kq.Event)
	defer changes.Put(c)
	c[0] = kq.Event{Ident: uint64(h), Filter: q.kernel.System().Read, Flags: flags}
	_, err := q.kernel.Kevent(q.fd-1, c[:], nil, 0)
	if err == unix.EINTR { // which comes after the change
		return nil
	}
	return err
}
