//go:build linux

package iouring_test

import (
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/backend/iouring"
)

// Where io_uring is forbidden, or the kernel lacks it, a program may choose epoll.
// Nothing does so by itself.
func Example() {
	p, err := epore.NewWith(iouring.New())
	if errors.Is(err, errors.ErrUnsupported) {
		p, err = epore.NewWith(epoll.New())
	}
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
	if _, err := fmt.Fprint(w, "hello"); err != nil {
		log.Fatal(err)
	}
	events := epore.NewEvents(16)
	if err := p.Poll(events, epore.Forever); err != nil {
		log.Fatal(err)
	}
	for ev := range events.All() {
		fmt.Println(ev)
	}
	// Output: token 7: Readable
}

// The ring belongs to the goroutine that polls, and to its thread: the first Poll
// locks it there. Other goroutines register all the same.
func Example_loop() {
	p, err := epore.NewWith(iouring.New(iouring.WithEntries(256)))
	if errors.Is(err, errors.ErrUnsupported) {
		p, err = epore.NewWith(epoll.New())
	}
	if err != nil {
		log.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	defer w.Close()

	done := make(chan struct{})
	go func() {
		defer close(done)
		defer p.Close()
		events := epore.NewEvents(16)
		if err := p.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for ev := range events.All() {
			fmt.Println(ev)
		}
	}()
	if err := p.Registry().Register(r, 7, epore.Readable|epore.OneShot); err != nil {
		log.Fatal(err)
	}
	if _, err := fmt.Fprint(w, "hello"); err != nil {
		log.Fatal(err)
	}
	<-done
	// Output: token 7: Readable
}
