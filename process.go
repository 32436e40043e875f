package epore

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"sync"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/process"
	"github.com/epore/epore/internal/slots"
)

// Process makes the end of a process an event of a Poll, without a thread or a goroutine for
// each process. It uses a pidfd on Linux, EVFILT_PROC on macOS and the BSDs, and the waits
// of the system's thread pool on Windows, which has one thread for 63 processes. Where none
// of these is available it uses SIGCHLD: one goroutine receives the signal for all processes
// and looks at each of them. Then the process must be a child of this one.
//
// All methods may be called from any goroutine. A pidfd is a descriptor, and Windows needs a
// handle, so Close the Process when its event has come.
type Process struct {
	poll *Poll
	end  func() error // releases what watches the process
	once sync.Once
	err  error // of end
}

// NewProcess returns a Process of the Poll of r. When p has ended there is one event, which
// is Readable and carries token, even if p ended before this call. NewProcess does not wait
// for the process in the sense of [os.Process.Wait]: after the event, Wait returns at once
// (or a moment later, because the kernels of the BSDs and macOS report the end just
// before), and so does [os/exec.Cmd.Wait] if it has no output to copy.
//
// Call NewProcess before, or concurrently with, Wait: once a process has been waited for,
// its PID may be reused. NewProcess then fails with os.ErrProcessDone; it never watches
// another process with the same PID. A Wait after NewProcess, even before the event, does
// no harm. A process may be watched any number of times; each time gives an event.
//
// For a bare PID, use [os.FindProcess]. It means the process that has the PID at the time of
// that call or, on systems without handles for processes, at the time of NewProcess.
//
// NewProcess fails with fs.ErrInvalid if p is nil or was released, and on Linux if its PID is
// the ID of a thread; on Windows a released process cannot be told from one that was waited
// for. It fails with errors.ErrUnsupported
// where the system has no way to learn of the end of a process.
func NewProcess(r *Registry, token Token, p *os.Process) (*Process, error) {
	pid := 0
	if p != nil {
		pid = p.Pid
	}
	watch, err := newProcess(r, token, p, pid)
	if err != nil {
		return nil, &OpError{"register", fmt.Sprintf("process %d", pid), err}
	}
	return watch, nil
}

func newProcess(r *Registry, token Token, p *os.Process, pid int) (*Process, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	if pid <= 0 || pid > math.MaxInt32 { // kernels would use the lower half of a longer one
		return nil, fmt.Errorf("the process is nil or was released, or its PID is out of range: %w", fs.ErrInvalid)
	}
	end, err := r.poll.watchProcess(token, pid)
	if err != nil {
		return nil, err
	}
	watch := &Process{poll: r.poll, end: end}
	if err = r.poll.addCloser(watch); err == nil && process.WaitedFor(p) {
		// Asked last: if p was not waited for by now, it had its PID all the time.
		err = os.ErrProcessDone
	}
	if err != nil {
		_ = watch.Close()
		return nil, err
	}
	return watch, nil
}

// processWays are the ways to learn of the end of a process, the best first. A way fails
// with errors.ErrUnsupported if the system does not have it, and with fs.ErrExist if it is
// taken. os.ErrProcessDone may mean that the process has ended and can still be waited for.
var processWays = []func(*Poll, Token, int) (end func() error, err error){
	(*Poll).watchByQueue, (*Poll).watchByDescriptor, (*Poll).watchBySignal,
}

// watchProcess uses the first way that is available.
func (p *Poll) watchProcess(token Token, pid int) (end func() error, err error) {
	var refusals error
	for _, way := range processWays {
		end, err := way(p, token, pid)
		switch {
		case errors.Is(err, os.ErrProcessDone) && process.Exists(pid):
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
		return nil, fmt.Errorf("%s cannot watch processes: %w", p.be.Name(), errors.ErrUnsupported)
	}
	p.slots.Lock()
	defer p.slots.Unlock()
	if p.closed.Load() {
		return nil, ErrClosed
	}
	key := p.slots.Insert(slots.NoHandle, uint64(token), Readable|slots.OnlyReadable)
	p.setLocalKind(slots.Index(key), localProcess)
	if err := w.WatchProcess(pid, key); err != nil {
		p.slots.Remove(slots.Index(key))
		return nil, err
	}
	return func() error {
		p.slots.Lock()
		defer p.slots.Unlock()
		p.slots.Remove(slots.Index(key))
		if p.released {
			return nil
		}
		return w.UnwatchProcess(pid, key)
	}, nil
}

// watchByDescriptor registers a descriptor that stands for the process.
func (p *Poll) watchByDescriptor(token Token, pid int) (end func() error, err error) {
	const in = Readable | OneShot
	if missing := in &^ p.caps.Interests; missing != 0 {
		return nil, fmt.Errorf("%s does not support %v: %w", p.be.Name(), missing, errors.ErrUnsupported)
	}
	fd, err := process.Open(pid)
	if err != nil {
		return nil, err
	}
	h := backend.Handle(fd)
	p.slots.Lock()
	defer p.slots.Unlock()
	if err = ErrClosed; !p.closed.Load() {
		var i uint32
		if i, err = p.register(h, token, in|slots.OnlyReadable); err == nil {
			p.inspection.spare(i)
		}
	}
	if err != nil {
		return nil, errors.Join(err, process.Close(fd))
	}
	return func() error {
		p.slots.Lock()
		defer p.slots.Unlock()
		var err error
		if !p.released {
			err = p.deregister(h)
		}
		return errors.Join(err, process.Close(fd))
	}, nil
}

// watchBySignal posts the event when SIGCHLD says that the child has ended.
func (p *Poll) watchBySignal(token Token, pid int) (end func() error, err error) {
	w, err := newWaker(p, localProcess, token)
	if err != nil {
		return nil, err
	}
	stop, err := process.WatchChild(pid, func() { _ = w.Wake() })
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return func() error {
		stop()
		return w.Close()
	}, nil
}

// postEnd is used for a process that has ended already.
func (p *Poll) postEnd(token Token) (end func() error, err error) {
	w, err := newWaker(p, localProcess, token)
	if err != nil {
		return nil, err
	}
	if err := p.post(&w.local); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w.Close, nil
}

// Close ends the Process. Its event is no longer delivered, not even if it is in the
// current batch, and its descriptor, if it has one, is closed. The process itself is not
// affected. Closing again returns what the first Close returned. The Poll's Close closes
// the Process, too.
func (p *Process) Close() error {
	if p.poll == nil {
		return &OpError{"close", "a Process", errZeroValue}
	}
	p.once.Do(func() {
		p.poll.removeCloser(p)
		if err := p.end(); err != nil {
			p.err = &OpError{"close", "a Process", err}
		}
	})
	return p.err
}
