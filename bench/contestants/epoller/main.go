// Epoller is smallnest/epoller, a level-triggered epoll of net.Conns: Wait returns those
// that are ready. The net.Conns are as little as it takes, with no more than a
// descriptor to find: one of the package net would be polled by the Go runtime too, and
// the sockets are read without it, as by all contestants.
package main

import (
	"fmt"
	"net"
	"syscall"

	"github.com/epore/epore/bench/internal/measure"
	"github.com/smallnest/epoller"
	"golang.org/x/sys/unix"
)

func main() {
	measure.Main(measure.Measures{
		"event":    event,
		"ready":    ready,
		"register": register,
		"memory":   memory,
		"threads":  threads,
		"pingpong": pingPong,
	})
}

// capacity is how many connections a Wait returns at most, and how many the poller is
// made for, so that it makes no slice of them in each Wait.
const capacity = 256

// conn is what is registered: a descriptor, and a token.
type conn struct {
	net.Conn
	fd, token int
}

func (c *conn) SyscallConn() (syscall.RawConn, error) { return rawConn{fd: c.fd}, nil }

// rawConn has only what the poller calls.
type rawConn struct {
	syscall.RawConn
	fd int
}

func (c rawConn) Control(f func(fd uintptr)) error {
	f(uintptr(c.fd))
	return nil
}

// conns returns a conn for In of each pair.
func conns(pairs []measure.Pair) []conn {
	c := make([]conn, len(pairs))
	for i, p := range pairs {
		c[i].fd, c[i].token = p.In, i
	}
	return c
}

// open makes a poller with the conns.
func open(conns []conn) (*epoller.Epoll, error) {
	p, err := epoller.NewPoller(capacity)
	if err != nil {
		return nil, err
	}
	return p, addAll(p, conns)
}

func addAll(p *epoller.Epoll, conns []conn) error {
	for i := range conns {
		if err := p.Add(&conns[i]); err != nil {
			return err
		}
	}
	return nil
}

// wait returns what is ready. What a poller returns is what it made of a net.Conn that
// was added.
func wait(p *epoller.Epoll) []net.Conn {
	ready, err := p.Wait(capacity)
	if err != nil {
		panic(err)
	}
	return ready
}

func event(a *measure.Args) ([]measure.Result, error) {
	if a.Mode == "edge" {
		return nil, fmt.Errorf("%w: epoller is level-triggered", measure.ErrMissing)
	}
	return measure.Event(a, func(pairs []measure.Pair, _ bool) (func(int), error) {
		p, err := open(conns(pairs))
		return func(events int) {
			for events > 0 {
				ready := wait(p)
				for _, c := range ready {
					measure.Get(c.(epoller.ConnImpl).GetFD())
				}
				events -= len(ready)
			}
		}, err
	})
}

// ready has Wait wait without a timeout, as it always does; there is always something
// ready.
func ready(a *measure.Args) ([]measure.Result, error) {
	return measure.Ready(a, func(pairs []measure.Pair) (func() (events, tokens int), error) {
		p, err := open(conns(pairs))
		return func() (n, sum int) {
			ready := wait(p)
			for _, c := range ready {
				sum += c.(epoller.ConnImpl).Conn.(*conn).token
			}
			return len(ready), sum
		}, err
	})
}

// register is without looks, as a registration is a system call at once, and a Wait
// would wait for an event.
func register(a *measure.Args) ([]measure.Result, error) {
	return measure.Register(a, func(pairs []measure.Pair) (func(), error) {
		p, err := open(nil)
		conns := conns(pairs)
		return func() {
			if err := addAll(p, conns); err != nil {
				panic(err)
			}
			for i := range conns {
				if err := p.Remove(&conns[i]); err != nil {
					panic(err)
				}
			}
		}, err
	})
}

// kept is what memory has registered.
var kept []conn

// memory is without the net.Conns, which a program has anyway.
func memory(a *measure.Args) ([]measure.Result, error) {
	kept = make([]conn, a.Registered)
	for i := range kept {
		kept[i].token = i // so that there is memory
	}
	return measure.Memory(a, func() (func([]measure.Pair) error, error) {
		first, err := measure.Pairs(1, 1)
		if err != nil {
			return nil, err
		}
		p, err := open(conns(first))
		if err != nil {
			return nil, err
		}
		measure.Put(first[0].Out)
		wait(p)
		return func(pairs []measure.Pair) error {
			for i, pair := range pairs {
				kept[i].fd = pair.In
			}
			return addAll(p, kept[:len(pairs)])
		}, nil
	})
}

// ended is an eventfd that is always ready. A poller that has it was stopped: nothing
// else ends a Wait.
var ended = func() *conn {
	fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		panic(err)
	}
	return &conn{fd: fd}
}()

// queue is a poller of which a goroutine waits.
type queue struct{ *epoller.Epoll }

// ready waits, and returns what is ready, or false when the queue was stopped.
func (q queue) ready() ([]net.Conn, bool) {
	ready := wait(q.Epoll)
	for _, c := range ready {
		if c.(epoller.ConnImpl).GetFD() == ended.fd {
			return nil, false
		}
	}
	return ready, true
}

func (q queue) Wait() bool {
	_, ok := q.ready()
	return ok
}

func (q queue) Stop() {
	if err := q.Add(ended); err != nil {
		panic(err)
	}
}

func (q queue) Turn(answers int) (events int, ok bool) {
	ready, ok := q.ready()
	for i, c := range ready {
		fd := c.(epoller.ConnImpl).GetFD()
		measure.Get(fd)
		if i < answers {
			measure.Put(fd)
		}
	}
	return len(ready), ok
}

func threads(a *measure.Args) ([]measure.Result, error) {
	return measure.Threads(a, func(pair measure.Pair) (measure.Waiter, error) {
		p, err := open(conns([]measure.Pair{pair}))
		return queue{p}, err
	})
}

func pingPong(a *measure.Args) ([]measure.Result, error) {
	return measure.PingPong(a, func(fds []int) (measure.Side, error) {
		conns := make([]conn, len(fds))
		for i, fd := range fds {
			conns[i].fd = fd
		}
		p, err := open(conns)
		return queue{p}, err
	})
}
