//go:build windows

package iocp

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/windows"

	"github.com/epore/epore/backend"
)

// IOCP is a queue on an I/O completion port. Create it with [New]. It serves one Poll.
// Its methods may be called concurrently as far as [backend.Backend] allows.
type IOCP struct {
	mu          sync.Mutex
	port        windows.Handle // 0: not open
	requests    requestPool
	sources     map[backend.Handle]*source
	lists       [states]list
	freeSources *source // sources to use again, linked by next

	processes map[backend.Key]*process
	ending    map[uint32]*process // by id; those whose end has not been reported

	waiting       bool      // a Wait is in GetQueuedCompletionStatusEx, without mu
	waitReturned  sync.Cond // on mu: that call has returned
	woken         bool      // the next Wait does not block
	wakePosted    atomic.Bool
	waitPackets   [256]packet // buffer of Wait
	changePackets [64]packet  // buffer of changes

	timer   timer
	packets *waitPackets // nil: the system's pool waits for handles
}

// The completion keys: what a packet is about.
const (
	keyPoll = iota // a request
	keyWake
	keyTick // the timer
	keyExit // a process
)

// New returns a queue that is not open yet. epore.NewWith opens it.
func New() *IOCP { return new(IOCP) }

var (
	_ backend.Backend        = (*IOCP)(nil)
	_ backend.EdgeEmulator   = (*IOCP)(nil)
	_ backend.ProcessWatcher = (*IOCP)(nil)
)

var (
	// On Windows, EEXIST is not fs.ErrExist, and ERROR_INVALID_HANDLE is not EBADF.
	errWatched      = fmt.Errorf("%w: %w", syscall.EEXIST, fs.ErrExist)
	errClosedHandle = fmt.Errorf("%w (%w)", windows.ERROR_INVALID_HANDLE, syscall.EBADF)
)

// Name implements [backend.Backend].
func (q *IOCP) Name() string { return "iocp" }

// Open implements [backend.Backend].
func (q *IOCP) Open() error {
	if err := findProcs(); err != nil {
		return err
	}
	// The concurrency limit is off. With a limit, the port would withhold packets from a
	// change while the thread that waited last is running.
	port, err := windows.CreateIoCompletionPort(windows.InvalidHandle, 0, 0, math.MaxInt32)
	if err != nil {
		return fmt.Errorf("CreateIoCompletionPort: %w", err)
	}
	q.requests = requestPool{port: port}
	q.sources = make(map[backend.Handle]*source)
	q.processes, q.ending = make(map[backend.Key]*process), make(map[uint32]*process)
	q.waitReturned.L = &q.mu
	q.packets = kernelPackets()
	q.port = port
	// The first helper handle is opened now, so that Open fails if AFD is unavailable.
	r, err := q.requests.get()
	if err != nil {
		return errors.Join(err, q.Close())
	}
	q.requests.put(r)
	return nil
}

// Capabilities implements [backend.Backend].
func (q *IOCP) Capabilities() backend.Capabilities {
	return backend.Capabilities{
		Interests:  backend.Readable | backend.Writable | backend.Priority | backend.OneShot,
		Resolution: q.timer.resolution(),
	}
}

// Add implements [backend.Backend].
func (q *IOCP) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.sources[h]; s != nil {
		switch same, err := q.verify(s); {
		case err != nil:
			return err
		case same:
			return errWatched
		}
	}
	s, err := q.track(h)
	if err != nil {
		return err
	}
	s.key, s.mode, s.want = k, in, in&backend.Conditions
	if err := q.arm(s); err != nil {
		_, ending := q.untrack(s)
		return errors.Join(err, ending)
	}
	return nil
}

// Modify implements [backend.Backend].
func (q *IOCP) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.sources[h]
	if s == nil {
		return syscall.ENOENT
	}
	switch same, err := q.verify(s); {
	case err != nil:
		return err
	case !same:
		return syscall.ENOENT
	}
	if err := q.disarm(s); err != nil {
		return err
	}
	if s.lost {
		return syscall.ENOENT
	}
	was := *s
	s.key, s.mode, s.want = k, in, in&backend.Conditions
	err := q.arm(s)
	if err != nil {
		s.key, s.mode, s.want = was.key, was.mode, was.mode&backend.Conditions
		q.setState(s, due)
	}
	return err
}

// Delete implements [backend.Backend].
func (q *IOCP) Delete(h backend.Handle) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.sources[h]
	if s == nil {
		return syscall.ENOENT
	}
	closed, err := q.untrack(s)
	if err == nil && closed {
		err = syscall.ENOENT
	}
	return err
}

// Rearm implements [backend.EdgeEmulator].
func (q *IOCP) Rearm(h backend.Handle, in backend.Interest) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.sources[h]
	if s == nil || s.mode&(backend.Edge|backend.OneShot) != backend.Edge {
		return
	}
	more := in & s.mode & backend.Conditions &^ s.want
	if more == 0 {
		return
	}
	s.want |= more
	if s.state == due || s.state == ready {
		return // the next Wait arms it, for all conditions in want
	}
	err := q.disarm(s)
	if s.lost {
		return
	}
	if err == nil {
		err = q.arm(s)
	}
	if err != nil { // the next Wait tries again, and reports a failure
		q.setState(s, due)
		_ = q.Wake()
	}
}

// Wait implements [backend.Backend].
func (q *IOCP) Wait(dst []backend.Event, timeout time.Duration) (n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.armDue()
	// All packets are taken, even if dst is small: the last of them may say that a
	// socket was closed, and then its earlier events must not be delivered.
	for got := len(q.waitPackets); got == len(q.waitPackets); timeout = 0 {
		if q.woken || q.lists[ready].first != nil {
			timeout = 0
		}
		if got, err = q.dequeue(q.waitPackets[:], timeout); err != nil {
			err = fmt.Errorf("GetQueuedCompletionStatusEx: %w", err)
			break
		}
		q.dispatch(q.waitPackets[:got])
	}
	q.woken = false
	if n = q.deliver(dst); n > 0 {
		err = nil // the next Wait meets it again
	}
	return n, err
}

// armDue arms the sources whose events earlier Waits delivered.
func (q *IOCP) armDue() {
	for s := q.lists[due].first; s != nil; s = q.lists[due].first {
		switch err := q.arm(s); {
		case err == nil:
		case handleChanged(err):
			q.setState(s, idle) // closePoll reports it
		default:
			s.bits = backend.ReadyError // the program sees the cause when it uses the socket
			q.setState(s, ready)
		}
	}
}

// deliver stores the events of ready sources in dst and returns their number.
func (q *IOCP) deliver(dst []backend.Event) (n int) {
	for s := q.lists[ready].first; s != nil && n < len(dst); s = q.lists[ready].first {
		dst[n] = backend.Event{Key: s.key, Ready: s.bits}
		n++
		switch {
		case s.mode&backend.OneShot != 0:
			s.want = 0
		case s.mode&backend.Edge != 0:
			s.want &^= backend.Interest(s.bits.For(s.mode)) & backend.Conditions
		}
		if s.want == 0 {
			q.setState(s, idle)
		} else {
			q.setState(s, due)
		}
	}
	return n
}

// dequeue takes packets out of the port. It unlocks mu while it waits.
func (q *IOCP) dequeue(dst []packet, timeout time.Duration) (int, error) {
	milliseconds := uint32(windows.INFINITE)
	switch {
	case timeout >= 0 && q.timer.start(q.port, q.packets, timeout):
		defer q.timer.stop()
	case timeout >= 0:
		milliseconds = uint32(min((timeout+time.Millisecond-1)/time.Millisecond, windows.INFINITE-1))
	}
	q.waiting = true
	q.mu.Unlock()
	n, err := dequeue(q.port, dst, milliseconds)
	q.mu.Lock()
	q.waiting = false
	q.waitReturned.Broadcast() // Wait dispatches these packets before it unlocks mu
	return n, err
}

// Wake implements [backend.Backend].
func (q *IOCP) Wake() error {
	if q.wakePosted.Swap(true) {
		return nil
	}
	err := windows.PostQueuedCompletionStatus(q.port, 0, keyWake, nil)
	if err != nil {
		q.wakePosted.Store(false)
		return fmt.Errorf("PostQueuedCompletionStatus: %w", err)
	}
	return nil
}

// Close implements [backend.Backend].
func (q *IOCP) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	err := q.timer.close()
	for _, p := range q.processes {
		err = errors.Join(err, p.wait.close())
	}
	for _, s := range q.sources {
		q.dropClosed(s)
	}
	// Memory that the kernel may still write to is freed only after the packet has come.
	for begin := time.Now(); q.requests.release() > 0; {
		if e := q.awaitPackets(); e != nil {
			err = errors.Join(err, e)
			break
		}
		if time.Since(begin) > cancelTimeout {
			err = errors.Join(err, errCancelStuck)
			break
		}
	}
	err = errors.Join(err, windows.CloseHandle(q.port))
	q.port, q.sources, q.freeSources, q.processes, q.ending = 0, nil, nil, nil, nil
	q.lists = [states]list{}
	return err
}
