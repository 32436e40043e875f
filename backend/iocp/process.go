//go:build windows

package iocp

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/epore/epore/backend"
)

// process is a watched process: a handle of it, and a wait for that handle by the
// system's thread pool, which has one thread for 63 waits. It has a source, without a
// socket, for its one event.
type process struct {
	source *source
	handle windows.Handle
	waiter windows.Handle // the pool's
	id     uint32
}

// exitPorts are the ports to post the end of a process to, by the id of the process,
// which is all that the pool passes to onExit.
var (
	exitPorts sync.Map // of uint32 to windows.Handle
	lastExit  atomic.Uint32
)

// onExit is the callback that the pool calls once for each process. It posts a packet.
var onExit = sync.OnceValue(func() uintptr {
	return syscall.NewCallback(func(id uintptr, _ uintptr) uintptr {
		if port, ok := exitPorts.Load(uint32(id)); ok {
			_ = windows.PostQueuedCompletionStatus(port.(windows.Handle), uint32(id), keyExit, nil)
		}
		return 0
	})
})

// WatchProcess implements [backend.ProcessWatcher].
func (q *IOCP) WatchProcess(pid int, k backend.Key) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	p, err := newProcess(pid, q.port)
	if err != nil {
		return err
	}
	p.source = &source{key: k, mode: backend.Readable | backend.OneShot}
	q.lists[idle].push(p.source)
	q.processes[k], q.ending[p.id] = p, p
	return nil
}

// newProcess opens a process and has the pool wait for it.
func newProcess(pid int, port windows.Handle) (*process, error) {
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
	p := &process{handle: h, id: lastExit.Add(1)}
	exitPorts.Store(p.id, port)
	const once, inWaitThread = 8, 4 // WT_EXECUTEONLYONCE, WT_EXECUTEINWAITTHREAD: onExit does not block
	ok, _, err := procRegisterWaitSingleObject.Call(uintptr(unsafe.Pointer(&p.waiter)), uintptr(h), onExit(), uintptr(p.id),
		windows.INFINITE, once|inWaitThread)
	if ok == 0 {
		exitPorts.Delete(p.id)
		return nil, errors.Join(fmt.Errorf("RegisterWaitForSingleObject: %w", err), windows.CloseHandle(h))
	}
	return p, nil
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
	delete(q.ending, p.id)
	return p.close()
}

// close ends the pool's wait. It returns when onExit will not be called any more.
func (p *process) close() error {
	exitPorts.Delete(p.id)
	ok, _, err := procUnregisterWaitEx.Call(uintptr(p.waiter), uintptr(windows.InvalidHandle))
	if ok != 0 {
		err = nil
	}
	return errors.Join(err, windows.CloseHandle(p.handle))
}

// exited acts on a packet about the end of a process.
func (q *IOCP) exited(id uint32) {
	if p := q.ending[id]; p != nil {
		delete(q.ending, id)
		p.source.bits = backend.ReadyReadable
		q.setState(p.source, ready)
	}
}
