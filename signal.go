package epore

import (
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/epore/epore/internal/system"
)

// Signal makes signals to this process events of a Poll. The Go runtime owns signal
// handling, so Signal receives them by [signal.Notify], and what package os/signal says
// applies: which signals can be received on which system, and that the default action of a
// signal, such as ending the program, is disabled while anything is subscribed to it.
// Several Signals, of one Poll or of several, and channels of os/signal may subscribe to the
// same signal; each of them gets it. All methods may be called from any goroutine.
type Signal struct {
	waker *Waker
	kinds []os.Signal
	// arrived says, for each kind, whether it waits to be received. channels holds the
	// channels that os/signal sends to, one for each kind, with room for one signal.
	// os/signal does not wait for room: a signal that finds none is covered by the signal
	// of its kind that is there.
	arrived  []atomic.Bool
	channels []chan os.Signal

	once       sync.Once
	stop, done chan struct{}
}

// NewSignal returns a Signal of the Poll of r, whose events carry token, for the signals
// sigs. It fails with fs.ErrInvalid if sigs is empty. (os/signal would then subscribe to all
// signals, including those that the Go runtime sends to itself.) It fails with fs.ErrInvalid,
// too, if one of sigs cannot be caught by any program (SIGKILL, SIGSTOP) or is not a signal
// of this system; the error says which. It fails with ErrClosed when r or the Poll is closed.
//
// The Signal runs one goroutine until it is closed.
func NewSignal(r *Registry, token Token, sigs ...os.Signal) (*Signal, error) {
	s, err := newSignal(r, token, sigs)
	if err != nil {
		return nil, &OpError{"register", fmt.Sprintf("a Signal of %v", sigs), err}
	}
	return s, nil
}

func newSignal(r *Registry, token Token, sigs []os.Signal) (*Signal, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	if len(sigs) == 0 {
		return nil, fmt.Errorf("no signal is named: %w", fs.ErrInvalid)
	}
	s := &Signal{stop: make(chan struct{}), done: make(chan struct{})}
	for _, sig := range sigs {
		if err := catchable(sig); err != nil {
			return nil, err
		}
		if !slices.Contains(s.kinds, sig) {
			s.kinds = append(s.kinds, sig)
			s.channels = append(s.channels, make(chan os.Signal, 1))
		}
	}
	s.arrived = make([]atomic.Bool, len(s.kinds))
	var err error
	if s.waker, err = newWaker(r.poll, localSignal, token); err != nil {
		return nil, err
	}
	for i, sig := range s.kinds {
		signal.Notify(s.channels[i], sig)
	}
	go s.relay()
	if err := r.poll.addCloser(s); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// signalNumbers bounds the numbers of signals: os/signal knows those below it.
const signalNumbers = 65

// catchable returns an error if a program cannot subscribe to sig. signal.Notify would
// silently do nothing.
func catchable(sig os.Signal) error {
	if slices.Contains(system.Uncatchable, sig) {
		return fmt.Errorf("%v cannot be caught by any program: %w", sig, fs.ErrInvalid)
	}
	v := reflect.ValueOf(sig)
	if !v.IsValid() || v.Type() != reflect.TypeOf(os.Interrupt) || v.CanInt() && (v.Int() <= 0 || v.Int() >= signalNumbers) {
		return fmt.Errorf("%v (%T) is not a signal of this system: %w", sig, sig, fs.ErrInvalid)
	}
	return nil
}

// relay makes events of what os/signal sends.
func (s *Signal) relay() {
	defer close(s.done)
	var cases []reflect.SelectCase
	for _, c := range s.channels {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)})
	}
	cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(s.stop)})
	for {
		i, _, _ := reflect.Select(cases)
		if i == len(s.channels) {
			s.takeLast()
			return
		}
		s.arrived[i].Store(true)
		_ = s.waker.Wake()
	}
}

// takeLast records the signals that had arrived when Close stopped the delivery. Select
// chooses at random between them and the end.
func (s *Signal) takeLast() {
	for i, c := range s.channels {
		select {
		case <-c:
			s.arrived[i].Store(true)
		default:
		}
	}
}

// Received yields the kinds of signals that have arrived since they were last received, each
// once however often it came, in the order in which they were given to NewSignal. A kind that
// is yielded has been received. The loop may be left at any point; the kinds that it did not
// reach give another event. So one loop for each event receives everything:
//
//	for sig := range s.Received() { ... }
//
// A program that subscribed to a single signal need not call Received. An event may find
// nothing to receive, if its signal arrived during the loop for an earlier event and that
// loop yielded it. After Close, Received yields what is left.
func (s *Signal) Received() iter.Seq[os.Signal] {
	return func(yield func(os.Signal) bool) {
		i := 0
		defer func() { // also when the loop body panics
			for ; i < len(s.kinds); i++ {
				if s.arrived[i].Load() {
					_ = s.waker.Wake()
				}
			}
		}()
		for i < len(s.kinds) {
			sig, arrived := s.kinds[i], s.arrived[i].Swap(false)
			i++
			if arrived && !yield(sig) {
				return
			}
		}
	}
}

// Close ends the Signal. Its events are no longer delivered, not even one that is in the
// current batch, and its signals have their previous effect again, unless something else is
// subscribed to them (see [signal.Stop]). Its goroutine has ended when Close returns.
// Closing again does nothing. The Poll's Close closes the Signal, too.
func (s *Signal) Close() error {
	if s.waker == nil {
		return &OpError{"close", "a Signal", errZeroValue}
	}
	s.once.Do(func() {
		s.waker.poll.removeCloser(s)
		_ = s.waker.Close() // fails only for a zero Waker
		for _, c := range s.channels {
			signal.Stop(c)
		}
		close(s.stop)
		<-s.done
	})
	return nil
}
