package measure

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestArguments(t *testing.T) {
	var got Args
	has := Measures{
		"event": func(a *Args) ([]Result, error) { got = *a; return []Result{{"ns", 1.5}}, nil },
		"ready": func(a *Args) ([]Result, error) { return nil, fmt.Errorf("%w: no level", ErrMissing) },
		"wake":  func(a *Args) ([]Result, error) { return []Result{{"ns", 1}}, errors.New("it broke") },
	}
	results, status, err := run(has, []string{"event", "mode=level", "active=3", "gear=block"})
	if err != nil || status != 0 || len(results) != 1 {
		t.Error(results, status, err)
	}
	if want := (Args{Mode: "level", Gear: "block", Rotate: "yes", Active: 3, Registered: 2000, Rounds: 2200, Loops: 1}); got != want {
		t.Errorf("%+v", got)
	}
	for _, c := range []struct {
		args   []string
		status int
	}{
		{nil, 2}, {[]string{"no"}, 2}, {[]string{"event", "n=3"}, 2}, {[]string{"event", "active=0"}, 2}, {[]string{"event", "active=x"}, 2},
		{[]string{"event", "mode=both"}, 2}, {[]string{"event", "kind=waiting"}, 2}, {[]string{"event", "x"}, 2},
		{[]string{"ready"}, 3}, {[]string{"timers"}, 3}, {[]string{"wake"}, 1},
	} {
		if results, status, err := run(has, c.args); status != c.status || err == nil || results != nil {
			t.Errorf("%q: %v, %d, %v", c.args, results, status, err)
		}
	}
}

// In each round every active socket gets a byte and none is left unread, whatever the
// numbers. Otherwise Get and Put panic.
func TestEvent(t *testing.T) {
	for _, a := range []Args{
		{Mode: "edge", Rotate: "yes", Active: 3, Registered: 7, Rounds: 50, Loops: 1},
		{Mode: "level", Rotate: "no", Active: 3, Registered: 7, Rounds: 50, Loops: 1},
		{Mode: "edge", Rotate: "yes", Active: 8, Registered: 8, Rounds: 5, Loops: 1},
		{Mode: "edge", Rotate: "yes", Active: 9, Registered: 2, Rounds: 5, Loops: 1},
	} {
		rounds := 0
		seen := map[int]bool{}
		results, err := Event(&a, func(pairs []Pair, edge bool) (func(int), error) {
			if edge != (a.Mode == "edge") {
				t.Error("edge:", edge)
			}
			return func(events int) {
				rounds++
				step := max(len(pairs)/events, 1)
				turn := rounds
				if a.Rotate == "no" {
					turn = 0
				}
				for i := range events {
					seen[(i*step+turn)%len(pairs)] = true
					Get(pairs[(i*step+turn)%len(pairs)].In)
				}
			}, nil
		})
		if err != nil || len(results) != 3 {
			t.Fatal(results, err)
		}
		want := max(a.Registered, a.Active)
		if a.Rotate == "no" {
			want = a.Active
		}
		if len(seen) != want || rounds != parts*max(a.Rounds/parts, 1) {
			t.Errorf("%+v: %d sockets were active in %d rounds", a, len(seen), rounds)
		}
	}
}

// Several loops run at the same time, each on its own sockets. If one cannot begin, none does.
func TestEvent_SeveralLoops(t *testing.T) {
	a := Args{Mode: "edge", Rotate: "yes", Active: 4, Registered: 8, Rounds: 22, Loops: 3}
	var mu sync.Mutex
	owner := map[int]int{} // of a descriptor
	var entered sync.WaitGroup
	entered.Add(a.Loops)
	opened := 0
	results, err := Event(&a, func(pairs []Pair, _ bool) (func(int), error) {
		mu.Lock()
		defer mu.Unlock()
		opened++
		for _, p := range pairs {
			if owner[p.In] != 0 {
				t.Errorf("loops %d and %d share a socket", owner[p.In], opened)
			}
			owner[p.In] = opened
		}
		round := 0
		return func(events int) {
			if round++; round == 1 { // deadlocks unless all loops run at the same time
				entered.Done()
				entered.Wait()
			}
			for i := range events {
				Get(pairs[(i*len(pairs)/events+round)%len(pairs)].In)
			}
		}, nil
	})
	if err != nil || opened != 3 || len(results) != 3 || results[2] != (Result{"registered", 24}) {
		t.Error(opened, results, err)
	}

	opened = 0
	results, err = Event(&a, func([]Pair, bool) (func(int), error) {
		mu.Lock()
		defer mu.Unlock()
		if opened++; opened == 2 {
			return nil, ErrMissing
		}
		return func(int) { t.Error("a loop ran, although another one could not begin") }, nil
	})
	if !errors.Is(err, ErrMissing) || results != nil {
		t.Error(results, err)
	}
}

// A lost event ends the program.
func TestReady(t *testing.T) {
	lost := 0
	look := func(pairs []Pair) (func() (int, int), error) {
		if len(pairs) != 9 {
			t.Error(len(pairs), "sockets")
		}
		return func() (n, sum int) {
			for i, p := range pairs {
				waiting, err := unix.IoctlGetInt(p.In, unix.TIOCINQ)
				if err != nil {
					t.Fatal(err)
				}
				n += waiting
				sum += waiting * i
			}
			return n - lost, sum
		}, nil
	}
	a := Args{Active: 5, Registered: 9, Rounds: 11}
	if _, err := Ready(&a, look); err != nil {
		t.Fatal(err)
	}
	lost = 1
	defer func() {
		if recover() == nil {
			t.Error("nobody noticed")
		}
	}()
	_, _ = Ready(&a, look)
}

// pollSide is a side by poll(2).
type pollSide struct {
	fds    []int
	stop   *os.File // closed to end a Turn
	poll   []unix.PollFd
	events int
}

func (s *pollSide) Turn(answers int) (events int, ok bool) {
	if _, err := unix.Poll(s.poll, -1); err == unix.EINTR {
		return 0, true
	} else if err != nil {
		panic(err)
	}
	for i, fd := range s.fds {
		if s.poll[i+1].Revents != 0 {
			Get(fd)
			if events < answers {
				Put(fd)
			}
			events++
		}
	}
	s.events += events
	return events, s.poll[0].Revents == 0
}

func (s *pollSide) Stop() { s.stop.Close() }

// PingPong makes as many trips as asked for, and leaves no byte in flight.
func TestPingPong(t *testing.T) {
	for _, pairs := range []int{1, 5} {
		var sides []*pollSide
		_, err := PingPong(&Args{Pairs: pairs, Trips: 1100}, func(fds []int) (Side, error) {
			r, w, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			t.Cleanup(func() { r.Close() })
			s := &pollSide{fds: fds, stop: w, poll: []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}}
			for _, fd := range fds {
				s.poll = append(s.poll, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
			}
			sides = append(sides, s)
			return s, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range sides {
			if want := 1100; s.events != want {
				t.Errorf("side %d of %d pairs had %d events, not %d", i, pairs, s.events, want)
			}
		}
	}
}

func TestMedian(t *testing.T) {
	if Median([]float64{3, 1, 2}) != 2 || Median([]float64{4, 1, 2, 3}) != 2.5 {
		t.Error("not the middle")
	}
}

// Each timer fires once for each time that it is set.
func TestTimers(t *testing.T) {
	set, stopped, fired := 0, 0, 0
	results, err := MeasureTimers(&Args{N: 10, Rounds: 2}, func(n int) (*Timers, error) {
		pending := 0
		return &Timers{
			Set: func(_ int, d time.Duration) {
				if d <= 0 {
					t.Error("not in the future:", d)
				}
				set++
				pending++
			},
			Stop:  func(int) { stopped++; pending-- },
			Run:   func() { fired += pending },
			Fired: func() int { n := pending; pending = 0; return n },
		}, nil
	})
	if err != nil || len(results) != 3 || set != 60 || stopped != 30 || fired != 30 {
		t.Error(results, err, set, stopped, fired)
	}
}
