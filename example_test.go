//go:build unix

package epore_test

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/pollfd"
)

// A pipe, watched for reading: nothing at first, then an event with its token.
func Example() {
	p, err := epore.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	r, w, _ := os.Pipe()
	defer r.Close()

	if err := p.Registry().Register(r, 7, epore.Readable); err != nil {
		fmt.Println(err)
		return
	}
	go w.Write([]byte("hello"))

	events := epore.NewEvents(64)
	if err := p.Poll(events, epore.Forever); err != nil {
		fmt.Println(err)
		return
	}
	for ev := range events.All() {
		buf := make([]byte, 16)
		n, _ := r.Read(buf)
		fmt.Println(ev, string(buf[:n]))
	}
	// Output: token 7: Readable hello
}

// The same on an explicitly chosen backend, waiting in the kernel.
func ExampleNewWith() {
	p, err := epore.NewWith(pollfd.New(), epore.WithStrategy(epore.Block))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	fmt.Println(p.Backend(), p.Strategy(), p.Capabilities().Interests)
	// Output: pollfd Block Readable|Writable|Priority|OneShot
}

func ExamplePoll_Poll() {
	p, _ := epore.New()
	defer p.Close()
	events := epore.NewEvents(8)
	err := p.Poll(events, 10*time.Millisecond)
	fmt.Println(err, events.Len())
	// Output: <nil> 0
}

func ExamplePoll_PollContext() {
	p, _ := epore.New()
	defer p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println(p.PollContext(ctx, epore.NewEvents(8)))
	// Output: context deadline exceeded
}

// A listener of package net is a Source as it is.
func ExampleRegistry_Register() {
	p, _ := epore.New()
	defer p.Close()
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	defer l.Close()
	source := l.(*net.TCPListener)
	fmt.Println(p.Registry().Register(source, 1, epore.Readable))
	err := p.Registry().Register(source, 2, epore.Readable)
	fmt.Println(errors.Is(err, fs.ErrExist))

	c, _ := net.Dial("tcp", l.Addr().String())
	defer c.Close()
	events := epore.NewEvents(8)
	p.Poll(events, epore.Forever)
	for ev := range events.All() {
		s, err := l.Accept() // does not block: a connection is there
		fmt.Println(ev, err)
		s.Close()
	}
	// Output:
	// <nil>
	// true
	// token 1: Readable <nil>
}

// One event, then silence until the source is armed again.
func ExampleRegistry_Reregister() {
	p, _ := epore.New()
	defer p.Close()
	r, w, _ := os.Pipe()
	w.Write([]byte("x"))
	p.Registry().Register(r, 1, epore.Readable|epore.OneShot)
	events := epore.NewEvents(8)
	for range 2 {
		p.Poll(events, 0)
		fmt.Println(events.Len())
	}
	p.Registry().Reregister(r, 2, epore.Readable|epore.OneShot)
	p.Poll(events, 0)
	for ev := range events.All() {
		fmt.Println(ev)
	}
	// Output:
	// 1
	// 0
	// token 2: Readable
}

// An event that waits in the batch is dropped when its source is deregistered.
func ExampleRegistry_Deregister() {
	p, _ := epore.New()
	defer p.Close()
	r, w, _ := os.Pipe()
	w.Write([]byte("x"))
	p.Registry().Register(r, 1, epore.Readable)
	events := epore.NewEvents(8)
	p.Poll(events, epore.Forever)
	fmt.Println(events.Len(), "event")
	p.Registry().Deregister(r)
	for ev := range events.All() {
		fmt.Println("not reached:", ev)
	}
	// Output: 1 event
}

// Another goroutine registers while Poll waits, through its own clone of the Registry.
func ExampleRegistry_TryClone() {
	p, _ := epore.New()
	defer p.Close()
	clone, err := p.Registry().TryClone()
	if err != nil {
		fmt.Println(err)
		return
	}
	r, w, _ := os.Pipe()
	w.Write([]byte("x"))
	go func() {
		defer clone.Close()
		clone.Register(r, 5, epore.Readable)
	}()
	events := epore.NewEvents(8)
	p.Poll(events, epore.Forever)
	for ev := range events.All() {
		fmt.Println(ev)
	}
	// Output: token 5: Readable
}

func ExampleWaker() {
	p, _ := epore.New()
	defer p.Close()
	w, err := epore.NewWaker(p.Registry(), 99)
	if err != nil {
		fmt.Println(err)
		return
	}
	go w.Wake()
	events := epore.NewEvents(8)
	p.Poll(events, epore.Forever)
	for ev := range events.All() {
		fmt.Println(ev)
	}
	// Output: token 99: Readable
}

// Signals are events like others. Received yields those that have arrived.
func ExampleSignal() {
	p, _ := epore.New()
	defer p.Close()
	s, err := epore.NewSignal(p.Registry(), 99, os.Interrupt, syscall.SIGTERM)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	self, _ := os.FindProcess(os.Getpid())
	self.Signal(os.Interrupt)
	events := epore.NewEvents(8)
	p.Poll(events, epore.Forever)
	for ev := range events.All() {
		for sig := range s.Received() {
			fmt.Println(ev, sig)
		}
	}
	// Output: token 99: Readable interrupt
}

// A raw descriptor.
func ExampleFD() {
	p, _ := epore.New()
	defer p.Close()
	r, _, _ := os.Pipe()
	fmt.Println(p.Registry().Register(epore.FD(r.Fd()), 1, epore.Readable))
	fmt.Println(p.Registry().Register(epore.FD(-1), 1, epore.Readable))
	// Output:
	// <nil>
	// epore: register fd -1: bad file descriptor (the source is closed or was never open)
}

// Workers send their results to the loop; when all of them are done, one says so.
func ExampleMailbox() {
	p, _ := epore.New()
	defer p.Close()
	const results = 5
	box, err := epore.NewMailbox[int](p.Registry(), results)
	if err != nil {
		fmt.Println(err)
		return
	}
	var working sync.WaitGroup
	for worker := range 3 {
		working.Go(func() {
			for i := range 100 {
				box.Send(worker * i)
			}
		})
	}
	go func() {
		working.Wait()
		box.CloseSend()
	}()

	sum := 0
	events := epore.NewEvents(8)
	for ended := false; !ended; {
		if err := p.Poll(events, epore.Forever); err != nil {
			fmt.Println(err)
			return
		}
		for ev := range events.All() {
			for v := range box.All() {
				sum += v
			}
			ended = ev.ReadClosed()
		}
	}
	box.Close()
	fmt.Println(sum)
	// Output: 14850
}

// With a bound, Send fails for senders that are too fast.
func ExampleNewBoundedMailbox() {
	p, _ := epore.New()
	defer p.Close()
	box, _ := epore.NewBoundedMailbox[string](p.Registry(), 1, 2)
	fmt.Println(box.Send("one"), box.Send("two"))
	fmt.Println(errors.Is(box.Send("three"), epore.ErrFull))
	for v := range box.All() {
		fmt.Println(v)
	}
	// Output:
	// <nil> <nil>
	// true
	// one
	// two
}

// A connection that says nothing for a while: each message sets the timer again.
func ExampleTimer() {
	p, _ := epore.New()
	defer p.Close()
	const message, silence = 1, 2
	box, _ := epore.NewMailbox[string](p.Registry(), message)
	timer, err := epore.NewTimer(p.Registry(), silence)
	if err != nil {
		fmt.Println(err)
		return
	}
	box.Send("hello")
	timer.Reset(time.Hour)
	events := epore.NewEvents(8)
	for {
		if err := p.Poll(events, epore.Forever); err != nil {
			fmt.Println(err)
			return
		}
		for ev := range events.All() {
			switch ev.Token {
			case message:
				for v := range box.All() {
					fmt.Println(v)
				}
				timer.Reset(20 * time.Millisecond)
			case silence:
				fmt.Println("silence")
				return
			}
		}
	}
	// Output:
	// hello
	// silence
}

// Ticks that went by while the loop was busy come as one event.
func ExampleTimer_Every() {
	p, _ := epore.New()
	defer p.Close()
	timer, _ := epore.NewTimer(p.Registry(), 1)
	timer.Every(10 * time.Millisecond)
	time.Sleep(35 * time.Millisecond) // busy
	events := epore.NewEvents(8)
	p.Poll(events, epore.Forever)
	for range events.All() {
		fmt.Println(events.Len(), "event,", timer.Ticks() >= 3)
	}
	fmt.Println(timer.Stop(), timer.Stop())
	// Output:
	// 1 event, true
	// true false
}

// What a Poll has done, as a variable of package expvar, which serves it at /debug/vars.
func ExamplePoll_Stats() {
	p, err := epore.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	expvar.Publish("epore", expvar.Func(func() any { return p.Stats() }))

	if err := p.Poll(epore.NewEvents(64), 0); err != nil {
		fmt.Println(err)
		return
	}
	var s epore.Stats
	if err := json.Unmarshal([]byte(expvar.Get("epore").String()), &s); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Polls, s.Events, s.Registrations)
	// Output: 1 0 0
}

// When a loop does not hear of a source: what is registered, and for what?
func ExamplePoll_Sources() {
	p, err := epore.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	if err := p.Registry().Register(l.(*net.TCPListener), 7, epore.Readable); err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range p.Sources() {
		fmt.Println(s.Token, s.Kind, s.Interest)
	}
	// Output: 7 *net.TCPListener Readable
}
