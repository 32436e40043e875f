//go:build windows

package iocp

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows"

	"github.com/epore/epore/backend"
)

// process is a watched process: a wait for a handle of it, and a source, without a
// socket, for its one event.
type process struct {
	source *source
	wait   *handleWait
}

// WatchProcess implements [backend.ProcessWatcher].
func (q *IOCP) WatchProcess(pid int, k backend.Key) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait, err := q.waitForProcess(pid)
	if err != nil {
		return err
	}
	p := &process{source: &source{key: k, mode: backend.Readable | backend.OneShot}, wait: wait}
	q.lists[idle].push(p.source)
	q.processes[k], q.ending[wait.id] = p, p
	return nil
}

// waitForProcess opens a process and starts to wait for its end.
func (q *IOCP) waitForProcess(pid int) (*handleWait, error) {
	// Windows rounds process IDs down to a multiple of four, as it does with handles.
	if pid <= 0 || uint64(pid) != uint64(pid)&0xFFFFFFFC {
		return nil, fmt.Errorf("%w: %w", os.ErrProcessDone, windows.ERROR_INVALID_PARAMETER)
	}
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err == windows.ERROR_INVALID_PARAMETER {
		return nil, fmt.Errorf("%w: OpenProcess: %w", os.ErrProcessDone, err)
	}
	if err != nil {
		return nil, fmt.Errorf("OpenProcess: %w", err)
	}
	w, err := newHandleWait(q.port, h, keyExit, q.packets, true)
	if err != nil {
		return nil, errors.Join(err, windows.CloseHandle(h))
	}
	if err := w.associate(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// UnwatchProcess implements [backend.ProcessWatcher].
func (q *IOCP) UnwatchProcess(_ int, k backend.Key) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.processes[k]
	if p == nil {
		return nil
	}
	q.lists[p.source.state].remove(p.source)
	delete(q.processes, k)
	delete(q.ending, p.wait.id)
	return p.wait.close()
}

// exited acts on a packet about the end of a process.
func (q *IOCP) exited(id uint32) {
	if p := q.ending[id]; p != nil {
		delete(q.ending, id)
		p.source.bits = backend.ReadyReadable
		q.setState(p.source, ready)
	}
}
