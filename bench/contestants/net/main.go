// Net is package net with a goroutine for each connection, plus the other parts of Go that
// replace an event queue: channels, and the timers of package time.
//
// Its sockets belong to package net and wait on the queue of the Go runtime. That queue is
// edge-triggered, so mode=level is not supported.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/epore/epore/bench/internal/measure"
)

func main() {
	measure.Main(measure.Measures{
		"event":    event,
		"memory":   memory,
		"wake":     wake,
		"timers":   timers,
		"threads":  threads,
		"pingpong": pingPong,
		"late":     func(a *measure.Args) ([]measure.Result, error) { return measure.Late(a, time.Sleep) },
	})
}

// newConn returns a connection of package net for a socket, which it replaces.
func newConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	return net.FileConn(f)
}

// inConns returns one for In of each pair.
func inConns(pairs []measure.Pair) ([]net.Conn, error) {
	conns := make([]net.Conn, len(pairs))
	for i, p := range pairs {
		var err error
		if conns[i], err = newConn(p.In); err != nil {
			return nil, err
		}
	}
	return conns, nil
}

// serve reads from a connection until it ends, and calls f for each read.
func serve(c net.Conn, buf []byte, f func()) {
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
		f()
	}
}

// counter signals when a number of events was counted since the last signal.
type counter struct {
	target  int64
	n       atomic.Int64
	reached chan struct{}
}

func newCounter(target int) *counter {
	return &counter{target: int64(target), reached: make(chan struct{}, 1)}
}

func (c *counter) count() {
	if c.n.Add(1)%c.target == 0 {
		c.reached <- struct{}{}
	}
}

// event counts the bytes that goroutines read, one goroutine for each socket. Another
// goroutine waits for all of them.
func event(a *measure.Args) ([]measure.Result, error) {
	if a.Mode != "edge" {
		return nil, fmt.Errorf("%w: the queue of the Go runtime is edge-triggered", measure.ErrMissing)
	}
	return measure.Event(a, func(pairs []measure.Pair, _ bool) (func(int), error) {
		conns, err := inConns(pairs)
		if err != nil {
			return nil, err
		}
		all := newCounter(min(a.Active, len(pairs)))
		for _, c := range conns {
			go serve(c, make([]byte, 1), all.count)
		}
		return func(int) { <-all.reached }, nil
	})
}

// memory is for a connection with its buffer and its goroutine, which waits in its second
// Read of up to 4 KiB.
func memory(a *measure.Args) ([]measure.Result, error) {
	return measure.Memory(a, func() (func([]measure.Pair) error, error) {
		register := func(pairs []measure.Pair) error {
			all := newCounter(len(pairs))
			for _, p := range pairs {
				c, err := newConn(p.In)
				if err != nil {
					return err
				}
				go serve(c, make([]byte, 4096), all.count)
			}
			for _, p := range pairs {
				measure.Put(p.Out)
			}
			<-all.reached
			return nil
		}
		first, err := measure.Pairs(1, 1)
		if err != nil {
			return nil, err
		}
		return register, register(first)
	})
}

// wake uses a channel. A goroutine waits on it and answers; for coalesced wakes the channel
// has room for one, and further wakes are dropped.
func wake(a *measure.Args) ([]measure.Result, error) {
	if a.Kind == "coalesced" {
		c := make(chan struct{}, 1)
		return measure.Wakes(a, func() {
			select {
			case c <- struct{}{}:
			default:
			}
		})
	}
	return measure.WakeWaiting(a, func(answer func()) (wake, stop func(), err error) {
		c := make(chan struct{})
		go func() {
			for range c {
				answer()
			}
		}()
		return func() { c <- struct{}{} }, func() { close(c) }, nil
	})
}

// timers uses Timers of package time, each of which runs its function in a new goroutine.
// They are made once and then set by Reset, which is faster than making new ones. The Go
// runtime runs due timers when it looks for another goroutine to run.
func timers(a *measure.Args) ([]measure.Result, error) {
	return measure.MeasureTimers(a, func(n int) (*measure.Timers, error) {
		var fired atomic.Int64
		t := make([]*time.Timer, n)
		for i := range t {
			t[i] = time.AfterFunc(time.Hour, func() { fired.Add(1) })
			t[i].Stop()
		}
		return &measure.Timers{
			Set:   func(i int, d time.Duration) { t[i].Reset(d) },
			Stop:  func(i int) { t[i].Stop() },
			Run:   runtime.Gosched,
			Fired: func() int { return int(fired.Swap(0)) },
		}, nil
	})
}

// threads uses goroutines that read.
func threads(a *measure.Args) ([]measure.Result, error) {
	pairs, err := measure.Pairs(a.Queues, 1)
	if err != nil {
		return nil, err
	}
	conns, err := inConns(pairs)
	if err != nil {
		return nil, err
	}
	read := newCounter(len(conns))
	var all sync.WaitGroup
	for _, c := range conns {
		all.Go(func() { serve(c, make([]byte, 1), read.count) })
	}
	for range 2 {
		for _, p := range pairs {
			measure.Put(p.Out)
		}
		<-read.reached
	}
	n, err := measure.Status("Threads")
	for _, c := range conns {
		c.Close()
	}
	all.Wait()
	return []measure.Result{{Name: "threads", Value: float64(n)}, {Name: "queues", Value: float64(len(pairs))}}, err
}

// pingPong uses a goroutine for each socket on both sides.
func pingPong(a *measure.Args) ([]measure.Result, error) {
	pairs, err := measure.Pairs(a.Pairs, 1)
	if err != nil {
		return nil, err
	}
	here, err := inConns(pairs)
	if err != nil {
		return nil, err
	}
	const parts = 11 // as in the other measures; the first is a warm-up
	each := max(a.Trips/parts, len(pairs))
	back := newCounter(each)
	var answers atomic.Int64
	for i, p := range pairs {
		there, err := newConn(p.Out)
		if err != nil {
			return nil, err
		}
		answer := func(c net.Conn) {
			if _, err := c.Write([]byte{0}); err != nil {
				panic(err)
			}
		}
		go serve(there, make([]byte, 1), func() { answer(there) })
		go serve(here[i], make([]byte, 1), func() {
			if answers.Add(-1) >= 0 {
				answer(here[i])
			}
			back.count()
		})
	}
	var ns []float64
	for range parts {
		begin := time.Now()
		answers.Store(int64(each - len(pairs)))
		for _, c := range here {
			if _, err := c.Write([]byte{0}); err != nil {
				return nil, err
			}
		}
		<-back.reached
		ns = append(ns, float64(time.Since(begin))/float64(each))
	}
	return []measure.Result{{Name: "ns", Value: measure.Median(ns[1:])}}, nil
}
