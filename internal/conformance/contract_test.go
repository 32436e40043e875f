//go:build unix || windows

package conformance_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/queuetest"
)

// The suite that holds every backend also holds a Poll on it, through the public API, on each
// queue and with each strategy.
func TestContract(t *testing.T) {
	for _, queue := range queuetest.All() {
		for _, strategy := range []epore.Strategy{epore.Park, epore.Block} {
			t.Run(queue.Name+", "+strategy.String(), func(t *testing.T) {
				p, err := epore.NewWith(queue.New(), epore.WithStrategy(strategy))
				skipWithout(t, err)
				name, same := p.Backend(), p.Strategy() != strategy
				require.NoError(t, p.Close())
				if same {
					t.Skip("this queue cannot park, so it would be the same test again")
				}
				backendtest.Run(t, func() (backend.Backend, error) {
					p, err := epore.NewWith(queue.New(), epore.WithStrategy(strategy))
					if err != nil {
						return nil, err
					}
					w, err := epore.NewWaker(p.Registry(), wakeToken)
					return &pollAsBackend{p, w, nil, make(map[backend.Key]*epore.Process)}, err
				}, exceptions[name]...)
			})
		}
	}
}

// exceptions lists the cases that a queue cannot pass: see the queues' packages.
var exceptions = map[string][]backendtest.Exception{
	"io_uring": {{
		Case: "a closed number that others use",
		Why:  "a request names a number, and does not know which file had it before",
	}},
	"iocp": {{
		Case: "both sides shut down",
		Why:  "AFD does not report that this side has shut down sending",
	}},
	"kqueue": {{
		Case: "a datagram nobody wants",
		Why:  "a kqueue reports a pending error only together with the end of a stream",
	}},
}

func init() {
	if runtime.GOOS == "linux" {
		return
	}
	exceptions["pollfd"] = backendtest.PollExceptions
	if runtime.GOOS == "dragonfly" {
		exceptions["pollfd"] = append(exceptions["pollfd"], backendtest.Exception{
			Case: "a pipe whose reader is gone",
			Why:  "poll(2) of DragonFly does not report it",
		})
	}
}

// wakeToken is free, because the suite registers nothing under zero.
const wakeToken = 0

// pollAsBackend gives a Poll the interface of a backend.
type pollAsBackend struct {
	*epore.Poll
	waker     *epore.Waker
	events    *epore.Events
	processes map[backend.Key]*epore.Process
}

func (p *pollAsBackend) Name() string { return p.Backend() }
func (p *pollAsBackend) Open() error  { return nil }
func (p *pollAsBackend) Wake() error  { return p.waker.Wake() }

func (p *pollAsBackend) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	return p.Registry().Register(epore.FD(int(h)), epore.Token(k), in)
}

func (p *pollAsBackend) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	return p.Registry().Reregister(epore.FD(int(h)), epore.Token(k), in)
}

func (p *pollAsBackend) Delete(h backend.Handle) error {
	return p.Registry().Deregister(epore.FD(int(h)))
}

func (p *pollAsBackend) WatchProcess(pid int, k backend.Key) (err error) {
	process, err := os.FindProcess(pid)
	if err != nil { // on Windows, if there is no process
		return fmt.Errorf("%w: %w", os.ErrProcessDone, err)
	}
	p.processes[k], err = epore.NewProcess(p.Registry(), epore.Token(k), process)
	return err
}

func (p *pollAsBackend) UnwatchProcess(_ int, k backend.Key) error { return p.processes[k].Close() }

func (p *pollAsBackend) Wait(dst []backend.Event, timeout time.Duration) (n int, err error) {
	if p.events == nil || p.events.Cap() != len(dst) {
		p.events = epore.NewEvents(len(dst))
	}
	for n == 0 {
		if err := p.Poll.Poll(p.events, timeout); err != nil {
			// Not wrapped: a backend may return EINTR, which the suite accepts, but a Poll
			// may not.
			return 0, fmt.Errorf("a Poll failed: %v", err)
		}
		if p.events.Len() == 0 {
			break
		}
		for ev := range p.events.All() {
			if ev.Token != wakeToken {
				dst[n] = backend.Event{Key: backend.Key(ev.Token), Ready: ev.Ready}
				n++
			}
		}
		timeout = 0 // that was the wake, which is an event here: look for others
	}
	return n, nil
}
