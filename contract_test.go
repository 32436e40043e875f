//go:build unix || windows

package epore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

// What holds for a backend holds for a Poll on it: the suite once more, through
// the public API, for both ways of waiting.
func TestContract(t *testing.T) {
	except := exceptions[open(t).Backend()]
	for _, s := range []epore.Strategy{epore.Park, epore.Block} {
		t.Run(s.String(), func(t *testing.T) {
			if open(t, epore.WithStrategy(s)).Strategy() != s {
				t.Skip("it would be the same once more: this queue cannot park")
			}
			backendtest.Run(t, func() (backend.Backend, error) {
				p, err := openBare(epore.WithStrategy(s))
				if err != nil {
					return nil, err
				}
				w, err := epore.NewWaker(p.Registry(), wakeToken)
				return &pollAsBackend{p, w, nil, make(map[backend.Key]*epore.Process)}, err
			}, except...)
		})
	}
}

// exceptions are what queues cannot pass: see their packages.
var exceptions = map[string][]backendtest.Exception{
	"io_uring": {{
		Case: "a closed number that others use",
		Why:  "requests are made for a number, and know nothing of who had it before",
	}},
	"iocp": {{
		Case: "both sides shut down",
		Why:  "AFD does not tell that this side has shut down sending",
	}},
	"kqueue": {{
		Case: "a datagram nobody wants",
		Why:  "a kqueue tells a pending error together with the end of a stream only",
	}},
}

// wakeToken is free: the suite registers nothing under zero.
const wakeToken = 0

// pollAsBackend is a Poll behind the interface of what stands below it.
type pollAsBackend struct {
	*epore.Poll
	waker     *epore.Waker
	events    *epore.Events
	processes map[backend.Key]*epore.Process
}

func (p *pollAsBackend) Name() string              { return p.Backend() }
func (p *pollAsBackend) Open(backend.Config) error { return nil }
func (p *pollAsBackend) Wake() error               { return p.waker.Wake() }

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
	p.processes[k], err = epore.NewProcess(p.Registry(), epore.Token(k), pid)
	return err
}

func (p *pollAsBackend) UnwatchProcess(_ int, k backend.Key) error { return p.processes[k].Close() }

func (p *pollAsBackend) Wait(dst []backend.Event, timeout time.Duration) (n int, err error) {
	if p.events == nil || p.events.Cap() != len(dst) {
		p.events = epore.NewEvents(len(dst))
	}
	for n == 0 {
		if err := p.Poll.Poll(p.events, timeout); err != nil {
			// Not unwrapped: a backend may say EINTR, which the suite bears; a Poll
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
		timeout = 0 // it was the wake, which is an event here: what else is there?
	}
	return n, nil
}
