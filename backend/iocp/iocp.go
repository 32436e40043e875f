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

// IOCP is a completion port. Make it with New; it serves one Poll. Its methods may be
// called from any goroutine, as far as [backend.Backend] allows.
type IOCP struct {
	mu       sync.Mutex
	port     windows.Handle // 0: not open
	requests requests
	socks    map[backend.Handle]*sock
	lists    [states]list
	unused   *sock // socks to use again

	processes map[backend.Key]*process
	ending    map[uint32]*process // those whose end was not told yet, by id

	waiting   bool      // a Wait is at the port
	collected sync.Cond // on mu: it is not there any more
	woken     bool      // the next Wait does not block
	waking    atomic.Bool
	packets   [256]packet // of the Wait
	few       [64]packet  // of a change

	timer timer
}

// The keys of packets.
const (
	keyPoll = iota // of a request
	keyWake
	keyTick // the timer's
	keyExit // of a process
)

// New returns a queue on a completion port that is not open yet: epore.NewWith opens
// it.
func New() *IOCP { return new(IOCP) }

var (
	_ backend.Backend        = (*IOCP)(nil)
	_ backend.EdgeEmulator   = (*IOCP)(nil)
	_ backend.ProcessWatcher = (*IOCP)(nil)
)

var (
	errNotOpen = fmt.Errorf("the completion port is not open: %w", syscall.EBADF)
	// On Windows EEXIST is not fs.ErrExist, and an invalid handle not EBADF.
	errWatched      = fmt.Errorf("%w: %w", syscall.EEXIST, fs.ErrExist)
	errClosedHandle = fmt.Errorf("%w (%w)", windows.ERROR_INVALID_HANDLE, syscall.EBADF)
)

// Name implements [backend.Backend].
func (q *IOCP) Name() string { return "iocp" }

// Open implements [backend.Backend].
func (q *IOCP) Open(backend.Config) error {
	if q.port != 0 {
		return fmt.Errorf("it is open already, and serves one Poll: %w", syscall.EBUSY)
	}
	if err := findProcs(); err != nil {
		return err
	}
	// As many threads as there may be: the port would not give packets to a change
	// while the thread that waited last is running, if there were a limit.
	port, err := windows.CreateIoCompletionPort(windows.InvalidHandle, 0, 0, math.MaxInt32)
	if err != nil {
		return fmt.Errorf("CreateIoCompletionPort: %w", err)
	}
	q.requests = requests{port: port}
	q.socks = make(map[backend.Handle]*sock)
	q.processes, q.ending = make(map[backend.Key]*process), make(map[uint32]*process)
	q.collected.L = &q.mu
	q.woken = false
	q.waking.Store(false)
	q.port = port
	// AFD is asked now, so that it is Open that fails if it cannot be had.
	r, err := q.requests.take()
	if err != nil {
		return errors.Join(err, q.Close())
	}
	q.requests.give(r)
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
	if q.port == 0 {
		return errNotOpen
	}
	if s := q.socks[h]; s != nil {
		switch same, err := q.verify(s); {
		case err != nil:
			return err
		case same:
			return errWatched
		}
	}
	s, err := q.enter(h)
	if err != nil {
		return err
	}
	s.key, s.mode, s.want = k, in, in&backend.Conditions
	if err := q.arm(s); err != nil {
		_, ending := q.leave(s)
		return errors.Join(err, ending)
	}
	return nil
}

// Modify implements [backend.Backend].
func (q *IOCP) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.socks[h]
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
		q.turn(s, due)
	}
	return err
}

// Delete implements [backend.Backend].
func (q *IOCP) Delete(h backend.Handle) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.socks[h]
	if s == nil {
		return syscall.ENOENT
	}
	closed, err := q.leave(s)
	if err == nil && closed {
		err = syscall.ENOENT
	}
	return err
}

// Rearm implements [backend.EdgeEmulator].
func (q *IOCP) Rearm(h backend.Handle, in backend.Interest) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.socks[h]
	if s == nil || s.mode&(backend.Edge|backend.OneShot) != backend.Edge {
		return
	}
	more := in & s.mode & backend.Conditions &^ s.want
	if more == 0 {
		return
	}
	s.want |= more
	if s.state == due || s.state == ready {
		return // the next Wait sees to it
	}
	err := q.disarm(s)
	if s.lost {
		return
	}
	if err == nil {
		err = q.arm(s)
	}
	if err != nil { // the next Wait tries again, and reports it
		q.turn(s, due)
		_ = q.Wake()
	}
}

// Wait implements [backend.Backend].
func (q *IOCP) Wait(dst []backend.Event, timeout time.Duration) (n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.port == 0 {
		return 0, errNotOpen
	}
	q.armDue()
	// All packets are taken, however little room there is: that a socket was closed may
	// be the last of them, and then what came before of it is not delivered.
	for got := len(q.packets); got == len(q.packets); timeout = 0 {
		if q.woken || q.lists[ready].first != nil {
			timeout = 0
		}
		if got, err = q.dequeue(q.packets[:], timeout); err != nil {
			err = fmt.Errorf("GetQueuedCompletionStatusEx: %w", err)
			break
		}
		q.collect(q.packets[:got])
	}
	q.woken = false
	if n = q.deliver(dst); n > 0 {
		err = nil // it will come again
	}
	return n, err
}

// armDue arms what had an event that the last Waits delivered, and is to be asked for
// again.
func (q *IOCP) armDue() {
	for s := q.lists[due].first; s != nil; s = q.lists[due].first {
		switch err := q.arm(s); {
		case err == nil:
		case noSocket(err):
			q.turn(s, idle) // watch will say it
		default:
			s.bits = backend.ReadyError // so that somebody looks
			q.turn(s, ready)
		}
	}
}

// deliver stores the events that are ready in dst.
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
			q.turn(s, idle)
		} else {
			q.turn(s, due)
		}
	}
	return n
}

// dequeue takes packets out of the port, for which it lets go of mu.
func (q *IOCP) dequeue(dst []packet, timeout time.Duration) (int, error) {
	milliseconds := uint32(windows.INFINITE)
	switch {
	case timeout >= 0 && q.timer.start(q.port, timeout):
		defer q.timer.stop()
	case timeout >= 0:
		milliseconds = uint32(min((timeout+time.Millisecond-1)/time.Millisecond, windows.INFINITE-1))
	}
	q.waiting = true
	q.mu.Unlock()
	n, err := dequeue(q.port, dst, milliseconds)
	q.mu.Lock()
	q.waiting = false
	q.collected.Broadcast() // what this got is collected before anybody has mu
	return n, err
}

// Wake implements [backend.Backend].
func (q *IOCP) Wake() error {
	if q.waking.Swap(true) {
		return nil
	}
	err := windows.PostQueuedCompletionStatus(q.port, 0, keyWake, nil)
	if err != nil {
		q.waking.Store(false)
		return fmt.Errorf("PostQueuedCompletionStatus: %w", err)
	}
	return nil
}

// Close implements [backend.Backend].
func (q *IOCP) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.port == 0 {
		return errNotOpen
	}
	err := q.timer.close()
	for _, p := range q.processes {
		err = errors.Join(err, p.close())
	}
	for _, s := range q.socks {
		q.lose(s)
	}
	// What the kernel may still write to is given back only when it has done so.
	for begin := time.Now(); q.requests.release() > 0; {
		if e := q.progress(); e != nil {
			err = errors.Join(err, e)
			break
		}
		if time.Since(begin) > patience {
			err = errors.Join(err, errStuck)
			break
		}
	}
	err = errors.Join(err, windows.CloseHandle(q.port))
	q.port, q.socks, q.unused, q.processes, q.ending = 0, nil, nil, nil, nil
	q.lists = [states]list{}
	return err
}
