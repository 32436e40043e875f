// Gnet is the poller of gnet: its package netpoll, with the functions that gnet itself uses
// (OpenPoller, AddRead, Delete, Trigger, Polling). The build tag poll_opt selects gnet's
// other poller.
//
// Polling is a loop that calls a callback. It returns only for an error, and allocates a list
// of events when it begins. So it runs once, in a coroutine that a measure resumes for each
// round and that the last callback of the round suspends. That takes two coroutine switches
// for each round, and no other goroutine or thread.
package main

import (
	"fmt"
	"iter"

	"github.com/epore/epore/bench/internal/measure"
	"github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"github.com/panjf2000/gnet/v2/pkg/queue"
)

func main() {
	measure.Main(measure.Measures{
		"event":    event,
		"ready":    ready,
		"register": register,
		"memory":   memory,
		"wake":     wake,
		"threads":  threads,
		"pingpong": pingPong,
	})
}

// loop is a poller, and its Polling as a coroutine.
type loop struct {
	*netpoll.Poller
	attachments []netpoll.PollAttachment // the kernel points to them with poll_opt
	callback    netpoll.PollEventHandler // set before the first add
	pause       func()                   // of a callback or task
	resume      func() (struct{}, bool)  // until pause is called
}

// open makes a poller for the given number of registrations.
func open(registrations int) (*loop, error) {
	p, err := netpoll.OpenPoller()
	if err != nil {
		return nil, err
	}
	l := &loop{Poller: p, attachments: make([]netpoll.PollAttachment, 0, registrations)}
	l.resume, _ = iter.Pull(func(yield func(struct{}) bool) {
		l.pause = func() { yield(struct{}{}) }
		if err := l.polling(); err != errors.ErrEngineShutdown {
			panic(fmt.Sprintf("Polling: %v", err))
		}
	})
	return l, nil
}

// addAll registers In of all pairs.
func (l *loop) addAll(pairs []measure.Pair, edge bool) error {
	for _, p := range pairs {
		if err := l.add(p.In, edge); err != nil {
			return err
		}
	}
	return nil
}

// trigger wakes Polling and runs a function in it.
func (l *loop) trigger(f queue.Func) {
	if err := l.Trigger(queue.HighPriority, f, nil); err != nil {
		panic(err)
	}
}

// stop makes Polling return. Any goroutine may call it.
func (l *loop) stop() {
	l.trigger(func(any) error { return errors.ErrEngineShutdown })
}

func event(a *measure.Args) ([]measure.Result, error) {
	return measure.Event(a, func(pairs []measure.Pair, edge bool) (func(int), error) {
		l, err := open(len(pairs))
		if err != nil {
			return nil, err
		}
		left := 0
		l.callback = func(fd int, _ netpoll.IOEvent, _ netpoll.IOFlags) error {
			measure.Get(fd)
			if left--; left == 0 {
				l.pause()
			}
			return nil
		}
		return func(events int) {
			left = events
			l.resume()
		}, l.addAll(pairs, edge)
	})
}

// ready makes Polling wait with timeout zero, as it does after it had events.
func ready(a *measure.Args) ([]measure.Result, error) {
	return measure.Ready(a, func(pairs []measure.Pair) (func() (events, tokens int), error) {
		l, err := open(len(pairs))
		if err != nil {
			return nil, err
		}
		var tokens []int // by descriptor, the only argument of the callback
		for i, p := range pairs {
			tokens = append(tokens, make([]int, max(p.In+1-len(tokens), 0))...)
			tokens[p.In] = i
		}
		n, sum := 0, 0
		l.callback = func(fd int, _ netpoll.IOEvent, _ netpoll.IOFlags) error {
			sum += tokens[fd]
			if n++; n == len(pairs) {
				l.pause()
			}
			return nil
		}
		return func() (int, int) {
			n, sum = 0, 0
			l.resume()
			return n, sum
		}, l.addAll(pairs, false)
	})
}

// register does not poll: a registration is one immediate system call, and Polling would wait
// for an event.
func register(a *measure.Args) ([]measure.Result, error) {
	return measure.Register(a, func(pairs []measure.Pair) (func(), error) {
		l, err := open(len(pairs))
		if err != nil {
			return nil, err
		}
		return func() {
			l.attachments = l.attachments[:0]
			if err := l.addAll(pairs, true); err != nil {
				panic(err)
			}
			for _, p := range pairs {
				if err := l.Delete(p.In); err != nil {
					panic(err)
				}
			}
		}, nil
	})
}

func memory(a *measure.Args) ([]measure.Result, error) {
	return measure.Memory(a, func() (func([]measure.Pair) error, error) {
		l, err := open(0)
		if err != nil {
			return nil, err
		}
		l.trigger(func(any) error { l.pause(); return nil })
		l.resume()
		return func(pairs []measure.Pair) error {
			l.reserve(len(pairs))
			return l.addAll(pairs, true)
		}, nil
	})
}

// wake always sends a task: each call of Trigger appends one to a queue, and only the first
// writes to the eventfd. Nothing runs the tasks during the measure, except for kind waiting.
func wake(a *measure.Args) ([]measure.Result, error) {
	l, err := open(0)
	if err != nil {
		return nil, err
	}
	if a.Kind == "coalesced" {
		nothing := func(any) error { return nil }
		return measure.Wakes(a, func() { l.trigger(nothing) })
	}
	return measure.WakeWaiting(a, func(answer func()) (wake, stop func(), err error) {
		task := func(any) error { answer(); return nil }
		go l.resume()
		return func() { l.trigger(task) }, l.stop, nil
	})
}

// waiter is a loop with one source.
type waiter struct{ *loop }

func (w waiter) Wait() bool {
	_, ok := w.resume()
	return ok
}

func (w waiter) Stop() { w.stop() }

func threads(a *measure.Args) ([]measure.Result, error) {
	return measure.Threads(a, func(p measure.Pair) (measure.Waiter, error) {
		l, err := open(1)
		if err != nil {
			return nil, err
		}
		l.callback = func(int, netpoll.IOEvent, netpoll.IOFlags) error {
			l.pause()
			return nil
		}
		return waiter{l}, l.add(p.In, true)
	})
}

// side is a side of a ping-pong.
type side struct {
	*loop
	left, answers int
}

// Turn ends after as many events as it has answers for, because Polling does not report the
// end of a batch.
func (s *side) Turn(answers int) (events int, ok bool) {
	events = max(answers, 1)
	s.left, s.answers = events, answers
	_, ok = s.resume()
	return events, ok
}

func (s *side) Stop() { s.stop() }

func pingPong(a *measure.Args) ([]measure.Result, error) {
	return measure.PingPong(a, func(fds []int) (measure.Side, error) {
		l, err := open(len(fds))
		if err != nil {
			return nil, err
		}
		s := &side{loop: l}
		l.callback = func(fd int, _ netpoll.IOEvent, _ netpoll.IOFlags) error {
			measure.Get(fd)
			if s.answers > 0 {
				s.answers--
				measure.Put(fd)
			}
			if s.left--; s.left == 0 {
				l.pause()
			}
			return nil
		}
		for _, fd := range fds {
			if err := l.add(fd, true); err != nil {
				return nil, err
			}
		}
		return s, nil
	})
}
