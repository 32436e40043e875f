package epore

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"sync"
	"syscall"

	"github.com/epore/epore/backend"
)

// Process makes the end of a process an event of a Poll, without a thread or a
// goroutine for each: by a pidfd on Linux, by EVFILT_PROC on the BSDs and macOS, by a
// wait of the system's pool of threads on Windows, which has one for 63 of them. Where
// none is to be had it is by SIGCHLD, which one goroutine gets for all of them, and looks
// at each; then the process must be a child of this one.
//
// All methods may be called from any goroutine. A pidfd is a descriptor, and Windows needs
// a handle, so Close it when the event has come.
type Process struct {
	poll *Poll
	end  func() error // gives back what watches it
	once sync.Once
	err  error // of end
}

// NewProcess returns a Process of the Poll of r: when process has ended there is one
// event, Readable and with token, also if it ended before this call. The process is
// left to be waited for: after the event, [os.Process.Wait] returns at once (or in a
// moment: kernels of the BSDs and macOS tell of the end just before), and so does
// [os/exec.Cmd.Wait] when it has no output to copy.
//
// process is an *os.Process or a number. NewProcess comes before Wait, or beside it:
// what was waited for is no more, and its number may be another one's. For an
// *os.Process this is noticed in any case and is os.ErrProcessDone, as for a number
// that nobody has; else a number means whoever has it at the time of the call. A Wait
// after NewProcess, also before the event, does no harm. A process may be watched any
// number of times, and each time gives an event. (Windows knows the number of a process
// that has ended for as long as anybody has a handle of it; then there is an event.)
//
// What cannot be a number, and a process that was released, are fs.ErrInvalid; on Windows
// the latter cannot be told from one that was waited for. Where the system has no way to
// tell of processes, it is errors.ErrUnsupported.
func NewProcess[P int | *os.Process](r *Registry, token Token, process P) (*Process, error) {
	var pid int
	var handle *os.Process
	switch p := any(process).(type) {
	case int:
		pid = p
	case *os.Process:
		if handle = p; p != nil {
			pid = p.Pid
		}
	}
	p, err := newProcess(r, token, pid, handle)
	if err != nil {
		return nil, &OpError{"register", fmt.Sprintf("process %d", pid), err}
	}
	return p, nil
}

func newProcess(r *Registry, token Token, pid int, handle *os.Process) (*Process, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	if pid <= 0 || pid > math.MaxInt32 { // kernels would take the lower half of a longer one
		return nil, fmt.Errorf("it is nil, was released, or is no number of a process: %w", fs.ErrInvalid)
	}
	end, err := r.poll.watchProcess(token, pid)
	if err != nil {
		return nil, err
	}
	p := &Process{poll: r.poll, end: end}
	if err = r.poll.adopt(p); err == nil && handle != nil && waitedFor(handle) {
		// Asked last: not waited for by now, it had its number all the time.
		err = os.ErrProcessDone
	}
	if err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// waitedFor reports that a Wait for p has returned, on Windows as EINVAL. Then p has
// lost its number.
func waitedFor(p *os.Process) bool {
	err := p.Signal(noSignal)
	return errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.EINVAL)
}

// processWays are how to learn of the end of a process, the best first. A way that is
// not there is errors.ErrUnsupported, and fs.ErrExist if it is taken. os.ErrProcessDone
// may mean that the process has ended and is to be waited for.
var processWays = []func(*Poll, Token, int) (end func() error, err error){
	(*Poll).watchByQueue, (*Poll).watchByDescriptor, (*Poll).watchBySignal,
}

// watchProcess goes the first way that there is.
func (p *Poll) watchProcess(token Token, pid int) (end func() error, err error) {
	var refusals error
	for _, way := range processWays {
		end, err := way(p, token, pid)
		switch {
		case errors.Is(err, os.ErrProcessDone) && processExists(pid):
			return p.postEnd(token)
		case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrExist), errors.Is(err, ErrNotPollable):
			if refusals != nil {
				err = fmt.Errorf("%w; %w", refusals, err)
			}
			refusals = err
		default:
			return end, err
		}
	}
	return nil, refusals
}

// watchByQueue leaves it to the backend.
func (p *Poll) watchByQueue(token Token, pid int) (end func() error, err error) {
	w, ok := p.be.(backend.ProcessWatcher)
	if !ok {
		return nil, fmt.Errorf("%s tells of no processes: %w", p.be.Name(), errors.ErrUnsupported)
	}
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.closed.Load() {
		return nil, ErrClosed
	}
	key := p.table.insert(noHandle, token, Readable|onlyReadable)
	if err := w.WatchProcess(pid, key); err != nil {
		p.table.remove(keyIndex(key))
		return nil, err
	}
	return func() error {
		p.table.mu.Lock()
		defer p.table.mu.Unlock()
		p.table.remove(keyIndex(key))
		if p.released {
			return nil
		}
		return w.UnwatchProcess(pid, key)
	}, nil
}

// watchByDescriptor registers a descriptor that stands for the process.
func (p *Poll) watchByDescriptor(token Token, pid int) (end func() error, err error) {
	const in = Readable | OneShot
	if lacking := in &^ p.caps.Interests; lacking != 0 {
		return nil, fmt.Errorf("%s has no %v: %w", p.be.Name(), lacking, errors.ErrUnsupported)
	}
	fd, err := openProcess(pid)
	if err != nil {
		return nil, err
	}
	h := backend.Handle(fd)
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if err = ErrClosed; !p.closed.Load() {
		err = p.register(h, token, in|onlyReadable)
	}
	if err != nil {
		return nil, errors.Join(err, closeDescriptor(fd))
	}
	return func() error {
		p.table.mu.Lock()
		defer p.table.mu.Unlock()
		var err error
		if !p.released {
			err = p.deregister(h)
		}
		return errors.Join(err, closeDescriptor(fd))
	}, nil
}

// postEnd is for a process that has ended already.
func (p *Poll) postEnd(token Token) (end func() error, err error) {
	w, err := newWaker(p, token)
	if err != nil {
		return nil, err
	}
	if err := p.post(&w.poster); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w.Close, nil
}

// Close ends the Process: its event is not delivered any more, not even if it is in
// the batch in hand, and its descriptor is closed, if it has one. What happens to the
// process itself is not its concern. Closing again returns what the first Close did,
// and the Poll's Close closes it, too.
func (p *Process) Close() error {
	if p.poll == nil {
		return &OpError{"close", "a Process", errMadeByHand}
	}
	p.once.Do(func() {
		p.poll.disown(p)
		if err := p.end(); err != nil {
			p.err = &OpError{"close", "a Process", err}
		}
	})
	return p.err
}
