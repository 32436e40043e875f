//go:build unix

package kqueue

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/kq"
)

var _ backend.ProcessWatcher = (*Kqueue)(nil)

// process is a watched one, until its end was reported: with that its knote goes.
type process struct {
	key    backend.Key
	serial uint32
}

// WatchProcess implements [backend.ProcessWatcher], by EVFILT_PROC. A queue has one
// knote for a number. While there is one, what that number stood for may have ended,
// and the number stand for another process by now: a second WatchProcess leaves it
// alone, and is fs.ErrExist.
func (q *Kqueue) WatchProcess(pid int, k backend.Key) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open {
		return errNotOpen
	}
	if _, watched := q.processes[pid]; watched {
		return unix.EEXIST
	}
	q.serial++
	if err := watchProcess(q.kernel, q.sys, q.fd, pid, q.serial); err != nil {
		return err
	}
	if q.processes == nil {
		q.processes = make(map[int]process)
	}
	q.processes[pid] = process{k, q.serial}
	return nil
}

// errNoProcess is what kernels say, some of them also of a process that has ended and
// was not waited for.
var errNoProcess = fmt.Errorf("%w: %w", os.ErrProcessDone, unix.ESRCH)

// watchProcess makes the knote.
func watchProcess(k kq.Kernel, sys kq.System, fd, pid int, serial uint32) error {
	if pid <= 0 || pid > math.MaxInt32 {
		return errNoProcess
	}
	change := kq.Event{Ident: uint64(pid), Filter: sys.Proc, Flags: kq.Add | kq.OneShot, Fflags: kq.Exit, Udata: serial}
	switch _, err := k.Kevent(fd, []kq.Event{change}, nil, 0); err {
	case nil, unix.EINTR: // which comes after the change
		return nil
	case unix.ESRCH:
		return errNoProcess
	default:
		return err
	}
}

// UnwatchProcess implements [backend.ProcessWatcher].
func (q *Kqueue) UnwatchProcess(pid int, k backend.Key) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open {
		return errNotOpen
	}
	p, watched := q.processes[pid]
	if !watched || p.key != k {
		return nil // its end was reported
	}
	delete(q.processes, pid)
	q.changes = append(q.changes[:0], kq.Event{Ident: uint64(pid), Filter: q.sys.Proc, Flags: kq.Delete})
	if err := q.submit(); err != unix.ENOENT { // else a Wait has just got its event
		return err
	}
	return nil
}

// takeProcess reports the end of a process, unless the event is stale. Under mu.
func (q *Kqueue) takeProcess(b *batch, ev *kq.Event) {
	pid := int(ev.Ident)
	p, watched := q.processes[pid]
	if !watched || p.serial != ev.Udata || ev.Flags&kq.Error != 0 {
		b.left++
		return
	}
	delete(q.processes, pid)
	b.dst[b.n] = backend.Event{Key: p.key, Ready: backend.ReadyReadable}
	b.n++
}

// OpenProcess returns a descriptor that is readable, for whatever queue, when the
// process pid has ended: a kqueue of its own. It is the caller's to close. Errors are
// those of WatchProcess, and errors.ErrUnsupported where there is no kqueue.
func OpenProcess(pid int) (fd int, err error) {
	if newNative == nil {
		return -1, fmt.Errorf("there is no kqueue: %w", errors.ErrUnsupported)
	}
	return openProcess(newNative(), pid)
}

func openProcess(k kq.Kernel, pid int) (fd int, err error) {
	if fd, err = k.Kqueue(); err != nil {
		return -1, fmt.Errorf("kqueue: %w", err)
	}
	if err := watchProcess(k, k.System(), fd, pid, 0); err != nil {
		return -1, errors.Join(err, k.Close(fd))
	}
	return fd, nil
}
