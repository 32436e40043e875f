// Epoller is smallnest/epoller, a level-triggered epoll of net.Conns: Wait returns the ready
// ones. The net.Conns here are minimal and only have a descriptor. The Go runtime would also
// poll one of package net, and no contestant reads its sockets through package net.
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

// capacity is the maximum number of connections of one Wait, and the size that the poller is
// made for, so that Wait allocates no slice.
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

// wait returns the ready connections. The poller returns them as wrappers of the net.Conns
// that were added.
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

// ready makes Wait wait without a timeout, as it always does. Some socket is always ready.
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

// register does not poll: a registration is one immediate system call, and a Wait would wait
// for an event.
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

// kept are the connections that memory has registered.
var kept []conn

// memory does not count the net.Conns, which every program has.
func memory(a *measure.Args) ([]measure.Result, error) {
	kept = make([]conn, a.Registered)
	for i := range kept {
		kept[i].token = i // makes the memory resident
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

// ended is an eventfd that is always ready. Adding it to a poller stops it: nothing else ends
// a Wait.
var ended = func() *conn {
	fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		panic(err)
	}
	return &conn{fd: fd}
}()

// queue is a poller that a goroutine waits on.
type queue struct{ *epoller.Epoll }

// ready waits and returns the ready connections, or false if the queue was stopped.
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
