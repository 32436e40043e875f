package epore_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/backend/iouring"
	"github.com/epore/epore/backend/kqueue"
	"github.com/epore/epore/backend/pollfd"
	"github.com/epore/epore/internal/kqsim"
)

// queueNames is the order to compare them in.
var queueNames = []string{"epoll", "io_uring", "pollfd"}

// kqueue is here, too, on simulated kernels of the systems that have it.
func init() {
	for _, p := range kqsim.Profiles {
		name := "kqueue, " + p.Name
		queueNames = append(queueNames, name)
		queues[name] = func() backend.Backend { return kqueue.NewOn(kqsim.New(p)) }
	}
}

// queues are those of this system, by name.
var queues = map[string]func() backend.Backend{
	"epoll":    func() backend.Backend { return epoll.New() },
	"io_uring": func() backend.Backend { return iouring.New() },
	"pollfd":   func() backend.Backend { return pollfd.New() },
}

// envQueue names the queue that the tests of this package are to run on, if it
// is not the one of New.
const envQueue = "EPORE_QUEUE"

// openQueue is New, on the queue that the tests are to run on, and such that any
// goroutine can poll: a queue that belongs to one thread gets one.
func openQueue(opts ...epore.Option) (*epore.Poll, error) {
	p, err := openBare(opts...)
	if err != nil || !p.Capabilities().OneThread {
		return p, err
	}
	if err := p.Close(); err != nil {
		return nil, err
	}
	return epore.NewWith(&oneThread{Uring: iouring.New()}, opts...)
}

// openBare is New, on the queue that the tests are to run on.
func openBare(opts ...epore.Option) (*epore.Poll, error) {
	if name := os.Getenv(envQueue); name != "" {
		return epore.NewWith(queues[name](), opts...)
	}
	return epore.New(opts...)
}

// All tests of this package once more, on each other queue of this system.
func TestOnOtherQueues(t *testing.T) {
	if os.Getenv(envQueue) != "" {
		t.Skip("this is one of them")
	}
	p := open(t)
	for name, queue := range queues {
		if name == p.Backend() {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel() // processes of their own, that mostly wait
			processors := runtime.GOMAXPROCS(0)
			if _, again := looked.LoadOrStore(fmt.Sprint(t.Name(), processors), true); again {
				t.Skip("tested already, on as many processors; its tag makes it the first")
			}
			other, err := epore.NewWith(queue())
			skipWithout(t, err)
			_ = other.Close()
			self := exec.Command(os.Args[0], "-test.skip=^(TestOnOtherQueues|Example.*)$", "-test.timeout=10m", fmt.Sprint("-test.cpu=", processors))
			if testing.Verbose() {
				self.Args = append(self.Args, "-test.v")
			}
			self.Env = append(os.Environ(), envQueue+"="+name)
			if strings.HasPrefix(name, "kqueue") { // what is long on a kernel is longer on a simulated one
				self.Env = append(self.Env, backendtest.EnvLong+"=")
			}
			out, err := self.CombinedOutput()
			if err != nil || testing.Verbose() {
				t.Logf("%s", out)
			}
			if err != nil {
				t.Fatalf("on %s: %v", name, err)
			}
		})
	}
}

// oneThread is an io_uring that belongs to one thread, and that thread.
type oneThread struct {
	*iouring.Uring
	waits   chan waitCall
	results chan waitResult
}

type waitCall struct {
	dst     []backend.Event
	timeout time.Duration
}

type waitResult struct {
	n   int
	err error
}

func (o *oneThread) Open(c backend.Config) error {
	if err := o.Uring.Open(c); err != nil {
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
	return r.n, r.err
}

func (o *oneThread) Close() error {
	close(o.waits)
	return o.Uring.Close()
}
