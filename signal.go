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
)

// Signal makes signals to this process events of a Poll. The Go runtime owns signal
// handling, so it is [signal.Notify] that receives them, and what package os/signal
// says holds here, too: which signals can be had on which system, and that the
// default action of a signal, as ending the program, is off for as long as anybody
// asks for it. Several Signals, of one Poll or of several, and channels of os/signal
// may ask for the same signal: each gets it. All methods may be called from any
// goroutine.
type Signal struct {
	waker *Waker
	kinds []os.Signal
	// arrived are the kinds to be received. channels are those that os/signal sends
	// to, one for each kind, with room for one: it does not wait for room. So what
	// finds none is told with the one of its kind that is there.
	arrived  []atomic.Bool
	channels []chan os.Signal

	once       sync.Once
	stop, done chan struct{}
}

// NewSignal returns a Signal of the Poll of r, whose events carry token, for the
// signals sigs. Without any of them it is fs.ErrInvalid, where os/signal takes all:
// that would include those that Go sends to itself. Those that no program can catch
// (SIGKILL, SIGSTOP), and what is no signal of this system, are fs.ErrInvalid, too;
// the error says which. ErrClosed when r or the Poll is closed.
//
// The Signal has a goroutine until it is closed.
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
		return nil, fmt.Errorf("it names no signal: %w", fs.ErrInvalid)
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
	if s.waker, err = newWaker(r.poll, token); err != nil {
		return nil, err
	}
	for i, sig := range s.kinds {
		signal.Notify(s.channels[i], sig)
	}
	go s.relay()
	if err := r.poll.adopt(s); err != nil {
		return nil, s.end(err)
	}
	return s, nil
}

// signals is how many numbers there are for signals: os/signal knows those below.
const signals = 65

// catchable says why sig cannot be asked for; signal.Notify would do nothing.
func catchable(sig os.Signal) error {
	if slices.Contains(uncatchable, sig) {
		return fmt.Errorf("%v cannot be caught by any program: %w", sig, fs.ErrInvalid)
	}
	v := reflect.ValueOf(sig)
	if !v.IsValid() || v.Type() != reflect.TypeOf(os.Interrupt) || v.CanInt() && (v.Int() <= 0 || v.Int() >= signals) {
		return fmt.Errorf("%v (%T) is no signal of this system: %w", sig, sig, fs.ErrInvalid)
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
			return
		}
		s.arrived[i].Store(true)
		_ = s.waker.Wake()
	}
}

// Received yields the kinds of signals that have arrived since they were last
// received, each once however often it came, in the order in which NewSignal got
// them. What is yielded is received; the loop may be left at any point, and what it
// did not come to gives another event. So one loop for each event gets everything:
//
//	for sig := range s.Received() { ... }
//
// Who asked for one signal only need not ask. An event may find nothing: when its
// signal came during the loop for an earlier one, and was yielded by that. After
// Close, it yields what is left.
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

// Close ends the Signal: no event of it is delivered any more, not even one that is
// in the batch in hand, and its signals do again what they did before, unless others
// ask for them, too (see [signal.Stop]). Its goroutine has ended when Close returns.
// Closing again does nothing, and the Poll's Close closes it, too.
func (s *Signal) Close() error {
	if s.waker == nil {
		return &OpError{"close", "a Signal", errMadeByHand}
	}
	s.once.Do(func() {
		s.waker.poll.disown(s)
		_ = s.waker.Close() // which fails for a zero Waker only
		for _, c := range s.channels {
			signal.Stop(c)
		}
		close(s.stop)
		<-s.done
	})
	return nil
}

// end is Close for what did not come to be, because of err.
func (s *Signal) end(err error) error {
	_ = s.Close()
	return err
}
