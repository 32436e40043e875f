//go:build linux

package iouring_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"runtime"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/backend/iouring"
)

// Where io_uring is forbidden, or the kernel has none, a program may choose
// epoll; nothing else does so for it.
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
	fmt.Fprint(w, "hello")
	events := epore.NewEvents(16)
	if err := p.Poll(events, epore.Forever); err != nil {
		log.Fatal(err)
	}
	for ev := range events.All() {
		fmt.Println(ev)
	}
	// Output: token 7: Readable
}

// The fast gear: the ring belongs to the thread of the goroutine that polls.
// Others register with it all the same.
func Example_block() {
	p, err := epore.NewWith(iouring.New(iouring.WithEntries(256)), epore.WithStrategy(epore.Block))
	if errors.Is(err, errors.ErrUnsupported) {
		p, err = epore.NewWith(epoll.New(), epore.WithStrategy(epore.Block))
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
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
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
	fmt.Fprint(w, "hello")
	<-done
	// Output: token 7: Readable
}
