// Easygo is the poller of mailru/easygo: its package netpoll, with a callback for each
// descriptor. A poller starts its own goroutine, which waits for events and calls the
// callbacks. So the callbacks drive the measure, as a program with this library works in
// them: the measure is a coroutine that the last callback of a round resumes. That takes
// two coroutine switches for each round, and no other thread.
//
// Descriptors are made with NewDesc, from sockets that the Go runtime does not poll. That
// is cheaper than Handle with a net.Conn, which the runtime polls.
package main

import (
	"io"
	"iter"
	"time"

	"github.com/epore/epore/bench/internal/measure"
	"github.com/mailru/easygo/netpoll"
	"golang.org/x/sys/unix"
)

func main() {
	measure.Main(measure.Measures{
		"event":    event,
		"ready":    ready,
		"register": register,
		"memory":   memory,
		"threads":  threads,
		"pingpong": pingPong,
	})
}

const edge = netpoll.EventRead | netpoll.EventEdgeTriggered

// newDesc makes a descriptor of a socket. It is blocking at that time, or the Go
// runtime would poll it too; Start makes it non-blocking again.
func newDesc(fd int, events netpoll.Event) (*netpoll.Desc, error) {
	if err := unix.SetNonblock(fd, false); err != nil {
		return nil, err
	}
	return netpoll.NewDesc(uintptr(fd), events), nil
}

// descs keeps all descriptors alive: the garbage collector would close their sockets.
var descs []*netpoll.Desc

// start registers In of a pair.
func start(p netpoll.Poller, pair measure.Pair, events netpoll.Event, callback netpoll.CallbackFn) error {
	desc, err := newDesc(pair.In, events)
	if err != nil {
		return err
	}
	descs = append(descs, desc)
	return p.Start(desc, callback)
}

// driven runs a measure as a coroutine of the goroutine of a poller. The measure calls
// pause, which lets the poller wait; a callback calls resume.
func driven(run func(p netpoll.Poller, pause, resume func()) ([]measure.Result, error)) (results []measure.Result, err error) {
	p, err := netpoll.New(nil)
	if err != nil {
		return nil, err
	}
	first, err := measure.Pairs(1, 1)
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	var next func() (struct{}, bool)
	resume := func() { next() }
	next, _ = iter.Pull(func(yield func(struct{}) bool) {
		results, err = run(p, func() { yield(struct{}{}) }, resume)
		close(done)
	})
	if err := start(p, first[0], edge, func(netpoll.Event) { resume() }); err != nil {
		return nil, err
	}
	measure.Put(first[0].Out)
	<-done
	return results, err
}

func event(a *measure.Args) ([]measure.Result, error) {
	return driven(func(p netpoll.Poller, pause, resume func()) ([]measure.Result, error) {
		return measure.Event(a, func(pairs []measure.Pair, isEdge bool) (func(int), error) {
			events := netpoll.EventRead
			if isEdge {
				events = edge
			}
			left := 0
			for _, pair := range pairs {
				err := start(p, pair, events, func(netpoll.Event) {
					measure.Get(pair.In)
					if left--; left == 0 {
						resume()
					}
				})
				if err != nil {
					return nil, err
				}
			}
			return func(events int) {
				left = events
				pause()
			}, nil
		})
	})
}

// ready makes the poller wait without a timeout, as it always does. Some socket is always
// ready.
func ready(a *measure.Args) ([]measure.Result, error) {
	return driven(func(p netpoll.Poller, pause, resume func()) ([]measure.Result, error) {
		return measure.Ready(a, func(pairs []measure.Pair) (func() (events, tokens int), error) {
			n, sum := 0, 0
			for i, pair := range pairs {
				err := start(p, pair, netpoll.EventRead, func(netpoll.Event) {
					sum += i
					if n++; n == len(pairs) {
						resume()
					}
				})
				if err != nil {
					return nil, err
				}
			}
			return func() (int, int) {
				n, sum = 0, 0
				pause()
				return n, sum
			}, nil
		})
	})
}

// register does not poll: a registration is one immediate system call, and the poller
// always waits. The descriptors are made before and reused in each round.
func register(a *measure.Args) ([]measure.Result, error) {
	return measure.Register(a, func(pairs []measure.Pair) (func(), error) {
		p, err := netpoll.New(nil)
		if err != nil {
			return nil, err
		}
		for _, pair := range pairs {
			desc, err := newDesc(pair.In, edge)
			if err != nil {
				return nil, err
			}
			descs = append(descs, desc)
		}
		return func() {
			for _, desc := range descs {
				if err := p.Start(desc, func(netpoll.Event) { panic("an event") }); err != nil {
					panic(err)
				}
			}
			for _, desc := range descs {
				if err := p.Stop(desc); err != nil {
					panic(err)
				}
			}
		}, nil
	})
}

// memory includes the Desc of each socket, which a registration needs, and a separate
// callback that knows the socket.
func memory(a *measure.Args) ([]measure.Result, error) {
	return measure.Memory(a, func() (func([]measure.Pair) error, error) {
		p, err := netpoll.New(nil)
		if err != nil {
			return nil, err
		}
		first, err := measure.Pairs(1, 1)
		if err != nil {
			return nil, err
		}
		called := make(chan struct{})
		if err := start(p, first[0], edge, func(netpoll.Event) { close(called) }); err != nil {
			return nil, err
		}
		measure.Put(first[0].Out)
		<-called
		return func(pairs []measure.Pair) error {
			for _, pair := range pairs {
				if err := start(p, pair, edge, func(netpoll.Event) { measure.Get(pair.In) }); err != nil {
					return err
				}
			}
			return nil
		}, nil
	})
}

// waiter is a poller with one source, and what waits for its callback.
type waiter struct {
	netpoll.Poller
	called chan struct{}
}

func (w *waiter) Wait() bool {
	_, ok := <-w.called
	return ok
}

// Stop closes the poller, with a method that is missing in the interface. Close calls the
// callback a last time before it returns.
func (w *waiter) Stop() {
	if err := w.Poller.(io.Closer).Close(); err != nil {
		panic(err)
	}
	close(w.called)
}

func threads(a *measure.Args) ([]measure.Result, error) {
	return measure.Threads(a, func(pair measure.Pair) (measure.Waiter, error) {
		p, err := netpoll.New(nil)
		if err != nil {
			return nil, err
		}
		w := &waiter{Poller: p, called: make(chan struct{}, 1)}
		return w, start(p, pair, edge, func(event netpoll.Event) {
			if event&netpoll.EventRead != 0 { // not the event of Close
				w.called <- struct{}{}
			}
		})
	})
}

// pingPong has two pollers, each with the goroutine that it starts. The caller's goroutine
// starts each part and waits for its end.
func pingPong(a *measure.Args) ([]measure.Result, error) {
	pairs, err := measure.Pairs(a.Pairs, 1)
	if err != nil {
		return nil, err
	}
	here, err := netpoll.New(nil)
	if err != nil {
		return nil, err
	}
	there, err := netpoll.New(nil)
	if err != nil {
		return nil, err
	}
	const parts = 11 // as in the other measures; the first is a warm-up
	each := max(a.Trips/parts, len(pairs))
	done := make(chan struct{})
	back := 0 // used only by the callbacks of this side, which share one goroutine
	for _, pair := range pairs {
		err := start(here, pair, edge, func(netpoll.Event) {
			measure.Get(pair.In)
			back++
			if back <= each-len(pairs) {
				measure.Put(pair.In)
			}
			if back == each {
				back = 0
				done <- struct{}{}
			}
		})
		if err != nil {
			return nil, err
		}
		other := measure.Pair{In: pair.Out, Out: pair.In}
		err = start(there, other, edge, func(netpoll.Event) {
			measure.Get(other.In)
			measure.Put(other.In)
		})
		if err != nil {
			return nil, err
		}
	}
	var ns []float64
	for range parts {
		begin := time.Now()
		for _, pair := range pairs {
			measure.Put(pair.In)
		}
		<-done
		ns = append(ns, float64(time.Since(begin))/float64(each))
	}
	return []measure.Result{{Name: "ns", Value: measure.Median(ns[1:])}}, nil
}
