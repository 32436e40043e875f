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

// process is a watched process: a handle of it, and a wait for that by the system's
// pool of threads, which has one thread for 63 of them. For Wait it is a sock without a
// socket, which has one event.
type process struct {
	sock   *sock
	handle windows.Handle
	waiter windows.Handle // of the pool
	id     uint32
}

// exits are the ports that wait for the end of processes, by the id of the process. The
// pool knows no more than that number.
var (
	exits    sync.Map // of uint32 to windows.Handle
	lastExit atomic.Uint32
)

// onExit is called by the pool, once for each process: it posts a packet.
var onExit = sync.OnceValue(func() uintptr {
	return syscall.NewCallback(func(id uintptr, _ uintptr) uintptr {
		if port, ok := exits.Load(uint32(id)); ok {
			_ = windows.PostQueuedCompletionStatus(port.(windows.Handle), uint32(id), keyExit, nil)
		}
		return 0
	})
})

// WatchProcess implements [backend.ProcessWatcher].
func (q *IOCP) WatchProcess(pid int, k backend.Key) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.port == 0 {
		return errNotOpen
	}
	p, err := newProcess(pid, q.port)
	if err != nil {
		return err
	}
	p.sock = &sock{key: k, mode: backend.Readable | backend.OneShot}
	q.lists[idle].push(p.sock)
	q.processes[k], q.ending[p.id] = p, p
	return nil
}

// newProcess has the pool wait for a process.
func newProcess(pid int, port windows.Handle) (*process, error) {
	// Windows rounds numbers of processes down, as it does with handles.
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
	exits.Store(p.id, port)
	const once, inWaitThread = 8, 4 // WT_EXECUTEONLYONCE, WT_EXECUTEINWAITTHREAD: it does not block
	ok, _, err := procRegisterWaitSingleObject.Call(uintptr(unsafe.Pointer(&p.waiter)), uintptr(h), onExit(), uintptr(p.id),
		windows.INFINITE, once|inWaitThread)
	if ok == 0 {
		exits.Delete(p.id)
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
	q.lists[p.sock.state].remove(p.sock)
	delete(q.processes, k)
	delete(q.ending, p.id)
	return p.close()
}

// close returns when the pool will not call any more.
func (p *process) close() error {
	exits.Delete(p.id)
	ok, _, err := procUnregisterWaitEx.Call(uintptr(p.waiter), uintptr(windows.InvalidHandle))
	if ok != 0 {
		err = nil
	}
	return errors.Join(err, windows.CloseHandle(p.handle))
}

// exited does what a packet about the end of a process says.
func (q *IOCP) exited(id uint32) {
	if p := q.ending[id]; p != nil {
		delete(q.ending, id)
		p.sock.bits = backend.ReadyReadable
		q.turn(p.sock, ready)
	}
}
