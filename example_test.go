//go:build unix

package epore_test

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/pollfd"
	"github.com/epore/epore/tryio"
)

// A pipe, watched for reading: nothing at first, then an event with its token.
func Example() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	r, w, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	defer w.Close()

	if err := p.Registry().Register(r, 7, epore.Readable); err != nil {
		log.Fatal(err)
	}
	go func() {
		if _, err := w.Write([]byte("hello")); err != nil {
			log.Fatal(err)
		}
	}()

	events := epore.NewEvents(64)
	if err := p.Poll(events, epore.Forever); err != nil {
		log.Fatal(err)
	}
	for ev := range events.All() {
		buf := make([]byte, 16)
		n, err := tryio.Read(r, buf)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(ev, string(buf[:n]))
	}
	// Output: token 7: Readable hello
}

// The same on an explicitly chosen backend, waiting in the kernel.
func ExampleNewWith() {
	p, err := epore.NewWith(pollfd.New(), epore.WithStrategy(epore.Block))
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	fmt.Println(p.Backend(), p.Strategy(), p.Capabilities().Interests)
	// Output: pollfd Block Readable|Writable|Priority|OneShot
}

// A logger receives what happens to the Poll, and at level Trace each registration.
func ExampleWithLogger() {
	logger := hclog.New(&hclog.LoggerOptions{Name: "epore", Level: hclog.Debug, Output: os.Stdout, DisableTime: true})
	p, err := epore.NewWith(pollfd.New(), epore.WithLogger(logger))
	if err != nil {
		log.Fatal(err)
	}
	if err := p.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// [DEBUG] epore: opened: backend=pollfd strategy=Block
	// [DEBUG] epore: closed: backend=pollfd error=<nil>
}

func ExamplePoll_Poll() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	events := epore.NewEvents(8)
	err = p.Poll(events, 10*time.Millisecond)
	fmt.Println(err, events.Len())
	// Output: <nil> 0
}

// A loop that ends with a context: at a deadline, at a signal (signal.NotifyContext), or when
// another goroutine cancels it.
func ExamplePoll_PollContext() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	events := epore.NewEvents(8)
	for {
		err := p.PollContext(ctx, events)
		if ctx.Err() != nil {
			fmt.Println(err)
			return // here a server would finish its connections
		}
		if err != nil {
			log.Fatal(err)
		}
		for ev := range events.All() {
			fmt.Println(ev)
		}
	}
	// Output: context deadline exceeded
}

// A listener of package net is a Source as it is.
func ExampleRegistry_Register() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	fmt.Println(p.Registry().Register(l, 1, epore.Readable))
	err = p.Registry().Register(l, 2, epore.Readable)
	fmt.Println(errors.Is(err, fs.ErrExist))

	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	events := epore.NewEvents(8)
	if err := p.Poll(events, epore.Forever); err != nil {
		log.Fatal(err)
	}
	for ev := range events.All() {
		accepted, err := tryio.Accept(l)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(ev, accepted.Close())
	}
	// Output:
	// <nil>
	// true
	// token 1: Readable <nil>
}

// One event, then silence until the source is armed again.
func ExampleRegistry_Reregister() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	r, w, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.Write([]byte("x")); err != nil {
		log.Fatal(err)
	}
	if err := p.Registry().Register(r, 1, epore.Readable|epore.OneShot); err != nil {
		log.Fatal(err)
	}
	events := epore.NewEvents(8)
	for range 2 {
		if err := p.Poll(events, 0); err != nil {
			log.Fatal(err)
		}
		fmt.Println(events.Len())
	}
	if err := p.Registry().Reregister(r, 2, epore.Readable|epore.OneShot); err != nil {
		log.Fatal(err)
	}
	if err := p.Poll(events, 0); err != nil {
		log.Fatal(err)
	}
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
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	r, w, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.Write([]byte("x")); err != nil {
		log.Fatal(err)
	}
	if err := p.Registry().Register(r, 1, epore.Readable); err != nil {
		log.Fatal(err)
	}
	events := epore.NewEvents(8)
	if err := p.Poll(events, epore.Forever); err != nil {
		log.Fatal(err)
	}
	fmt.Println(events.Len(), "event")
	if err := p.Registry().Deregister(r); err != nil {
		log.Fatal(err)
	}
	for ev := range events.All() {
		fmt.Println("not reached:", ev)
	}
	// Output: 1 event
}

// Another goroutine registers while Poll waits, through its own clone of the Registry.
func ExampleRegistry_TryClone() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	clone, err := p.Registry().TryClone()
	if err != nil {
		log.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.Write([]byte("x")); err != nil {
		log.Fatal(err)
	}
	go func() {
		defer clone.Close()
		if err := clone.Register(r, 5, epore.Readable); err != nil {
			log.Fatal(err)
		}
	}()
	events := epore.NewEvents(8)
	if err := p.Poll(events, epore.Forever); err != nil {
		log.Fatal(err)
	}
	for ev := range events.All() {
		fmt.Println(ev)
	}
	// Output: token 5: Readable
}

func ExampleWaker() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	w, err := epore.NewWaker(p.Registry(), 99)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := w.Wake(); err != nil {
			log.Fatal(err)
		}
	}()
	events := epore.NewEvents(8)
	if err := p.Poll(events, epore.Forever); err != nil {
		log.Fatal(err)
	}
	for ev := range events.All() {
		fmt.Println(ev)
	}
	// Output: token 99: Readable
}

// Signals are events like others. Received yields those that have arrived.
func ExampleSignal() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	s, err := epore.NewSignal(p.Registry(), 99, os.Interrupt, syscall.SIGTERM)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		log.Fatal(err)
	}
	events := epore.NewEvents(8)
	if err := p.Poll(events, epore.Forever); err != nil {
		log.Fatal(err)
	}
	for ev := range events.All() {
		for sig := range s.Received() {
			fmt.Println(ev, sig)
		}
	}
	// Output: token 99: Readable terminated
}

// A raw descriptor.
func ExampleFD() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	r, w, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	fmt.Println(p.Registry().Register(epore.FD(r.Fd()), 1, epore.Readable))
	fmt.Println(p.Registry().Register(epore.FD(-1), 1, epore.Readable))
	// Output:
	// <nil>
	// epore: register fd -1: bad file descriptor (the source is closed or was never open)
}

// watchInput watches a file that may be a terminal, a pipe, or a regular file. A regular file
// is always ready, and cannot be watched: read it without waiting for events.
func watchInput(r *epore.Registry, in *os.File, token epore.Token) (watched bool, err error) {
	err = r.Register(in, token, epore.Readable)
	if errors.Is(err, epore.ErrNotPollable) {
		return false, nil
	}
	return err == nil, err
}

// The input of a program may be a terminal, a pipe or a file.
func ExampleErrNotPollable() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	r, w, err := os.Pipe() // what os.Stdin is in "date | program"
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	file, err := os.CreateTemp("", "example") // what os.Stdin is in "program < file"
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	fmt.Println(watchInput(p.Registry(), r, 1))
	fmt.Println(watchInput(p.Registry(), file, 2))
	// Output:
	// true <nil>
	// false <nil>
}

// Workers send their results to the loop; when all of them are done, one says so.
func ExampleMailbox() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	const results = 5
	box, err := epore.NewMailbox[int](p.Registry(), results)
	if err != nil {
		log.Fatal(err)
	}
	var working sync.WaitGroup
	for worker := range 3 {
		working.Go(func() {
			for i := range 100 {
				if err := box.Send(worker * i); err != nil {
					log.Fatal(err)
				}
			}
		})
	}
	go func() {
		working.Wait()
		if err := box.CloseSend(); err != nil {
			log.Fatal(err)
		}
	}()

	sum := 0
	events := epore.NewEvents(8)
	for ended := false; !ended; {
		if err := p.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for ev := range events.All() {
			for v := range box.All() {
				sum += v
			}
			ended = ev.ReadClosed()
		}
	}
	if err := box.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(sum)
	// Output: 14850
}

// With a bound, Send fails for senders that are too fast.
func ExampleNewBoundedMailbox() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	box, err := epore.NewBoundedMailbox[string](p.Registry(), 1, 2)
	if err != nil {
		log.Fatal(err)
	}
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
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	const message, silence = 1, 2
	box, err := epore.NewMailbox[string](p.Registry(), message)
	if err != nil {
		log.Fatal(err)
	}
	timer, err := epore.NewTimer(p.Registry(), silence)
	if err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(box.Send("hello"), timer.Reset(time.Hour)); err != nil {
		log.Fatal(err)
	}
	events := epore.NewEvents(8)
	for {
		if err := p.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for ev := range events.All() {
			switch ev.Token {
			case message:
				for v := range box.All() {
					fmt.Println(v)
				}
				if err := timer.Reset(20 * time.Millisecond); err != nil {
					log.Fatal(err)
				}
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
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	timer, err := epore.NewTimer(p.Registry(), 1)
	if err != nil {
		log.Fatal(err)
	}
	if err := timer.Every(10 * time.Millisecond); err != nil {
		log.Fatal(err)
	}
	time.Sleep(35 * time.Millisecond) // busy
	events := epore.NewEvents(8)
	if err := p.Poll(events, epore.Forever); err != nil {
		log.Fatal(err)
	}
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
		log.Fatal(err)
	}
	defer p.Close()
	expvar.Publish("epore", expvar.Func(func() any { return p.Stats() }))

	if err := p.Poll(epore.NewEvents(64), 0); err != nil {
		log.Fatal(err)
	}
	var s epore.Stats
	if err := json.Unmarshal([]byte(expvar.Get("epore").String()), &s); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Polls, s.Events, s.Registrations)
	// Output: 1 0 0
}

// When a loop does not hear of a source: what is registered, and for what?
func ExamplePoll_Sources() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	if err := p.Registry().Register(l, 7, epore.Readable); err != nil {
		log.Fatal(err)
	}
	for _, s := range p.Sources() {
		fmt.Println(s.Token, s.Kind, s.Interest)
	}
	// Output: 7 *net.TCPListener Readable
}
