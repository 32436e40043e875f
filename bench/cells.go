package main

import (
	"fmt"
	"slices"
)

// cell is one measure with its arguments: a row of figures, one for each contestant.
type cell struct {
	id    string
	title string
	args  []string // for queues: MEASURE KEY=VALUE...; for servers: of the client
	quick []string // instead of args in a quick run
	kind  kind
	// pinned runs the program on one processor. It is for measures in which only one
	// thread of the program takes part.
	pinned bool
	tls    bool     // for servers that speak TLS
	only   []string // contestants; empty: all of the kind
	rounds int      // at most so many; 0: all
}

type kind int

const (
	queue kind = iota
	serve      // servers under load
	idle       // servers with connections that do nothing
	move       // data that goes through a program, which brings its load
)

// key names a figure of a cell.
type key struct{ cell, contestant, name string }

// The contestants of the curves: the floor, Epore, and the best of the others.
var curves = []string{"c-epoll", "go-epoll", "epore-epoll", "epore-epoll-block", "epore-uring", "mio", "gnet-opt"}

var cells = slices.Concat([]cell{
	{id: "event-edge", title: "an event, edge-triggered: 64 active of 2,000", pinned: true,
		args: []string{"event", "mode=edge"}, quick: []string{"event", "mode=edge", "rounds=110"}},
	{id: "event-level", title: "an event, level-triggered: 64 active of 2,000", pinned: true,
		args: []string{"event", "mode=level"}, quick: []string{"event", "mode=level", "rounds=110"}},
	{id: "ready", title: "collecting 64 that are ready, level-triggered, each", pinned: true,
		args: []string{"ready"}, quick: []string{"ready", "rounds=220"}},
	{id: "register", title: "registering and deregistering one of 1,000", pinned: true,
		args: []string{"register"}, quick: []string{"register", "rounds=11"}},
},
	// The smallest cell needs many rounds to take long enough.
	byActive(1, 60000), byActive(8, 12000), byActive(256, 550),
	byRegistered(100), byRegistered(1000), byRegistered(9000),
	oneReadyOf(1), oneReadyOf(30), oneReadyOf(100), oneReadyOf(1000), oneReadyOf(9000),
	[]cell{
		{id: "pingpong-1", title: "a round trip between two goroutines, 1 pair", args: []string{"pingpong", "pairs=1", "trips=10000"},
			quick: []string{"pingpong", "pairs=1", "trips=1100"}},
		{id: "pingpong-10", title: "a round trip between two goroutines, 10 pairs", args: []string{"pingpong", "pairs=10", "trips=50000"},
			quick: []string{"pingpong", "pairs=10", "trips=2200"}},
		{id: "pingpong-200", title: "a round trip between two goroutines, 200 pairs", args: []string{"pingpong", "pairs=200", "trips=100000"},
			quick: []string{"pingpong", "pairs=200", "trips=4400"}},
		{id: "wake-coalesced", title: "a wake that joins one not taken", pinned: true, args: []string{"wake", "kind=coalesced", "rounds=220000"},
			quick: []string{"wake", "kind=coalesced", "rounds=11000"}},
		{id: "wake-waiting", title: "waking who waits, until its answer came by a channel", args: []string{"wake", "kind=waiting", "rounds=50000"},
			quick: []string{"wake", "kind=waiting", "rounds=550"}, only: []string{"epore-epoll", "epore-epoll-block", "epore-uring", "epore-pollfd", "gnet", "gnet-opt", "net"}},
		timersOf(100_000), timersOf(100), timersOf(1000), timersOf(10_000), timersOf(1_000_000),
		loopsOf(1), loopsOf(2),
		{id: "threads", title: "threads while 1,000 goroutines wait, with a queue each", args: []string{"threads"},
			quick: []string{"threads", "queues=50"}, rounds: 3},
		{id: "memory", title: "memory of a registration, 8,192 registered", pinned: true, args: []string{"memory", "registered=8192"},
			quick: []string{"memory", "registered=512"}, rounds: 3},
		{id: "allocs", title: "allocations of a call", args: []string{"allocs"}, quick: []string{"allocs", "rounds=10"}, rounds: 3,
			only: []string{"epore-epoll", "epore-epoll-block", "epore-uring", "epore-pollfd"}},

		late(1), late(100), late(1000), late(5000),

		echo(1, 64), echo(50, 64), echo(1000, 64), echo(5000, 64), manyEchoes(19000), echo(50, 4<<10), echo(50, 64<<10),
		moved("udp-8x16", "echo of datagrams of 64 bytes: 8 clients with 16 on their way", "udp", "clients=8", "window=16"),
		moved("udp-128x1", "echo of datagrams of 64 bytes: 128 clients with one on its way", "udp", "clients=128", "window=1"),
		moved("proxy", "a stream through a proxy", "proxy"),
		idleConnections(8000, 3, "memory of an idle TCP connection, of 8,000"),
		// The client uses fewer if descriptors run out before ports do.
		idleConnections(28000, 1, "memory of an idle TCP connection, of as many as the limits allow"),

		overTLS(echo(1000, 64)), overTLS(idleConnections(2000, 3, "memory of an idle connection, of 2,000")),
	})

func byActive(n, rounds int) []cell {
	args := []string{"event", "mode=edge", fmt.Sprint("active=", n)}
	return []cell{{id: fmt.Sprint("event-active-", n), title: fmt.Sprintf("an event, edge-triggered: %d active of 2,000", n), pinned: true, only: curves,
		args: append(slices.Clone(args), fmt.Sprint("rounds=", rounds)), quick: append(slices.Clone(args), "rounds=110")}}
}

// byRegistered keeps the same sockets active in each round. So the growth is the queue's
// work for the others, not the cache misses of touching them.
func byRegistered(n int) []cell {
	args := []string{"event", "mode=edge", "rotate=no", fmt.Sprint("registered=", n)}
	return []cell{{id: fmt.Sprint("event-registered-", n), title: fmt.Sprintf("an event, edge-triggered: the same 64 active of %d", n), pinned: true, only: curves,
		args: args, quick: append(slices.Clone(args), "rounds=110")}}
}

// oneReadyOf is a wait that finds one ready socket of n. Only poll(2) examines the others.
func oneReadyOf(n int) []cell {
	args := []string{"ready", "active=1", fmt.Sprint("registered=", n)}
	return []cell{{id: fmt.Sprint("look-", n), title: fmt.Sprintf("a look that finds one ready of %d", n), pinned: true,
		only:  []string{"go-epoll", "epore-epoll", "epore-uring", "epore-pollfd"},
		args:  append(slices.Clone(args), fmt.Sprint("rounds=", max(550, 200000/n))),
		quick: append(slices.Clone(args), "rounds=55")}}
}

// timersOf is for all queues with timers at 100,000, the number of the goals. The other
// numbers show the growth.
func timersOf(n int) cell {
	c := cell{id: fmt.Sprint("timers-", n), title: fmt.Sprintf("%s timers, each", grouped(n)),
		args: []string{"timers", fmt.Sprint("n=", n)}, quick: []string{"timers", "n=100", "rounds=1"}}
	if n == 100_000 {
		c.id = "timers"
		return c
	}
	c.only, c.rounds = []string{"epore-epoll", "epore-uring", "libev", "libuv", "net"}, 3
	if n > 100_000 { // a round waits until all were set in time
		c.args, c.rounds = append(c.args, "rounds=1"), 1
	}
	return c
}

// grouped formats a number with commas.
func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

// loopsOf is for loops that have nothing in common, on as many processors as there are.
func loopsOf(n int) cell {
	args := []string{"event", "mode=edge", "registered=1000", fmt.Sprint("loops=", n)}
	return cell{id: fmt.Sprint("loops-", n), title: fmt.Sprintf("an event, edge-triggered: 64 active of 1,000 in each loop, loops at the same time: %d", n), rounds: 3,
		only: []string{"go-epoll", "epore-epoll", "epore-epoll-block", "epore-uring", "gnet-opt", "net"},
		args: args, quick: append(slices.Clone(args), "rounds=110")}
}

// manyEchoes is for so many connections that connecting takes longer than the measure.
func manyEchoes(connections int) cell {
	c := echo(connections, 64)
	c.rounds, c.only = 3, []string{"server-c-level", "server-epore", "server-epore-loop", "server-net", "server-gnet"}
	return c
}

func late(micros int) cell {
	args := []string{"late", fmt.Sprint("micros=", micros)}
	return cell{id: fmt.Sprint("late-", micros), title: fmt.Sprintf("a wait with a timeout of %d µs: longer by", micros), args: args, quick: append(slices.Clone(args), "rounds=3"), rounds: 3,
		only: []string{"epore-epoll", "epore-epoll-block", "epore-uring", "epore-pollfd", "net"}}
}

func echo(connections, size int) cell {
	args := []string{fmt.Sprint("connections=", connections), fmt.Sprint("size=", size)}
	return cell{id: fmt.Sprintf("echo-%d-%d", connections, size), title: fmt.Sprintf("echo: %d connections, messages of %d bytes", connections, size), kind: serve,
		args: append(slices.Clone(args), "seconds=0.8"), quick: append(slices.Clone(args), "seconds=0.1", "warmup=0.05")}
}

func idleConnections(n, rounds int, title string) cell {
	args := func(n int) []string { return []string{fmt.Sprint("connections=", n), "size=64", "seconds=0"} }
	return cell{id: fmt.Sprint("idle-", n), title: title, kind: idle, args: args(n), quick: args(min(n, 100)), rounds: rounds}
}

func moved(id, title string, args ...string) cell {
	return cell{id: id, title: title, kind: move, pinned: true, args: args, quick: append(slices.Clone(args), "milliseconds=50")}
}

// takesPart reports whether a contestant takes part in the cell.
func (c *cell) takesPart(k *contestant) bool {
	if k.mover {
		return c.kind == move
	}
	return c.kind != move && (c.kind != queue) == k.server && c.tls == k.tls && (len(c.only) == 0 || slices.Contains(c.only, k.id))
}

// overTLS is a cell for the servers that speak TLS.
func overTLS(c cell) cell {
	c.id, c.title, c.tls = "tls-"+c.id, "TLS 1.3, "+c.title, true
	return c
}
