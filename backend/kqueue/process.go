//go:build unix

package kqueue

import (
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/kq"
)

var _ backend.ProcessWatcher = (*Kqueue)(nil)

// process is a watched process. When its end is reported, its knote no longer exists.
type process struct {
	key        backend.Key
	generation uint32
}

// WatchProcess implements [backend.ProcessWatcher] with EVFILT_PROC. A queue has one
// knote for each PID. While it exists, the process may have ended and another one may
// have its PID, so a second WatchProcess leaves the knote alone and returns fs.ErrExist.
func (q *Kqueue) WatchProcess(pid int, k backend.Key) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, watched := q.processes[pid]; watched {
		return unix.EEXIST
	}
	q.generation++
	if err := kq.WatchProcess(q.kernel, q.fd, pid, q.generation); err != nil {
		return err
	}
	if q.processes == nil {
		q.processes = make(map[int]process)
	}
	q.processes[pid] = process{k, q.generation}
	return nil
}

// UnwatchProcess implements [backend.ProcessWatcher].
func (q *Kqueue) UnwatchProcess(pid int, k backend.Key) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	p, watched := q.processes[pid]
	if !watched || p.key != k {
		return nil // its end was reported
	}
	delete(q.processes, pid)
	q.changes = append(q.changes[:0], kq.Event{Ident: uint64(pid), Filter: q.sys.Proc, Flags: kq.Delete})
	if err := q.apply(); err != unix.ENOENT { // a Wait has just received the event
		return err
	}
	return nil
}

// mergeProcess puts the end of a process into the batch, unless the event is stale. The
// caller holds mu.
func (q *Kqueue) mergeProcess(b *batch, ev *kq.Event) {
	pid := int(ev.Ident)
	p, watched := q.processes[pid]
	if !watched || p.generation != ev.Udata || ev.Flags&kq.Error != 0 {
		b.merged++
		return
	}
	delete(q.processes, pid)
	b.dst[b.n] = backend.Event{Key: p.key, Ready: backend.ReadyReadable}
	b.n++
}
