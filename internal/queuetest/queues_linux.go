package queuetest

import (
	"runtime"
	"time"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/backend/iouring"
	"github.com/epore/epore/backend/kqueue"
	"github.com/epore/epore/backend/pollfd"
	"github.com/epore/epore/internal/kqsim"
)

var all = []Queue{
	{"epoll", func() backend.Backend { return epoll.New() }},
	{"io_uring", func() backend.Backend { return iouring.New() }},
	{"pollfd", func() backend.Backend { return pollfd.New() }},
}

// kqueue runs here on the simulated kernels of the systems that have it.
func init() {
	for _, p := range kqsim.Profiles {
		all = append(all, Queue{"kqueue, " + p.Name, func() backend.Backend { return kqueue.NewOn(kqsim.New(p)) }})
	}
}

// onThread returns a queue that belongs to one thread together with that thread.
func onThread(name string) backend.Backend { return &oneThread{Uring: iouring.New()} }

// oneThread makes every Wait of an io_uring on the same thread.
type oneThread struct {
	*iouring.Uring
	waits   chan waitCall
	results chan waitResult
	calls   uint // of Wait
}

type waitCall struct {
	dst     []backend.Event
	timeout time.Duration
}

type waitResult struct {
	n   int
	err error
}

// Capabilities is that of a queue that any goroutine may wait on.
func (o *oneThread) Capabilities() backend.Capabilities {
	c := o.Uring.Capabilities()
	c.OneThread = false
	return c
}

func (o *oneThread) Open() error {
	if err := o.Uring.Open(); err != nil {
		return err
	}
	o.waits, o.results = make(chan waitCall), make(chan waitResult)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for w := range o.waits {
			n, err := o.Uring.Wait(w.dst, w.timeout)
			o.results <- waitResult{n, err}
		}
	}()
	return nil
}

func (o *oneThread) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	o.waits <- waitCall{dst, timeout}
	r := <-o.results
	// Two goroutines that wake each other, of which one is locked to its thread, keep all
	// others in the run queue of their processor from running.
	if o.calls++; o.calls%64 == 0 {
		runtime.Gosched()
	}
	return r.n, r.err
}

func (o *oneThread) Close() error {
	close(o.waits)
	return o.Uring.Close()
}
