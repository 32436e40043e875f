package main

import (
	"fmt"
	"math"
	"strings"
)

// goal is a target for a figure of Epore.
type goal struct {
	id, what string
	limit    float64
	figure   figureOf
	why      string // a miss, as profiles and counts of system calls show it
}

// Why goals may be missed. The text is printed only with those that are.
const (
	inGo      = "Raw epoll in Go, without anything of Epore's, takes more than C, too, as the tables show. That is the limit for a program in Go."
	calls     = "Nine tenths of it are the two system calls. A Poll that has parked is itself watched by the Go runtime, and then the kernel looks through the paths of wake-ups at each epoll_ctl."
	ringReg   = "On io_uring, registering asks the kernel which file it is (SO_COOKIE), and deregistering asks again. A request that a Poll has made in between is canceled at once, so that closing takes effect: one more system call. The same system calls in C take 0.89 to 0.94 of the time of epoll in C, and each takes longer in Go."
	oneEvent  = "With one pair, a round trip is ten system calls: 2 reads, 2 writes, and 6 epoll_pwait, of which the Go runtime makes 2. In package net it is eight: 4 reads, of which 2 find nothing, 2 writes, 2 epoll_pwait. A wake-up goes through two queues. The look before parking cannot be left out: the look before it may have used up what the runtime was told."
	echoing   = "The system calls are those of C, one recvfrom and one sendto for each message, and they are nearly all of the time. Sending on loopback, which includes receiving, is the physical limit."
	unchecked = "gnet with poll_opt has the kernel return a pointer, and does not check that the descriptor is still the one that was registered. Epore does, and never delivers an event of a closed one."
	smallRest = "An event is what is left when writing and reading, measured separately, are taken off: an eighth of the time of a round. So if writing and reading vary by 2 %, this figure varies by 15 %. On io_uring, the whole Wait of Epore is 1.7 % of the samples. In C on io_uring, an event takes 0.48 to 0.63 of what it takes Epore on epoll."
	sameCalls = "On io_uring and on epoll, the server reads and writes by the same system calls, and they are nearly all of the time. What is left for the queue is less than the rounds vary."
	sameHeap  = "Timers are in a heap of the program, whatever the queue, so both lines run the same code. Four fifths of the samples are in clock_gettime, because the loop looks at the clock until the next timer is due."
	oneThread = "A timer of libuv belongs to one thread. Those of Epore can be set from any goroutine, which takes a lock."
	addresses = "Each datagram goes to another address, so none of them pass through the kernel together (UDP_SEGMENT). A batch then saves only entries into the kernel, and announces itself to Go's scheduler, which single calls do not."
	checks    = "Outside of the kernel, a message takes 328 ns with package loop and 277 ns by hand with 1,000 connections, and 350 and 375 ns with 5,000. The kernel takes 4,900 to 6,000 ns for the same system calls, and varies by more."
	cipher    = "In a profile, the kernel takes 76 to 78 %, crypto/tls 13 to 15 %, and Epore 6 to 7 %. A raw loop with the same calls of crypto/tls and nothing else took 0.74 to 0.77 of the time of goroutines, in three runs with this load: that is the bound."
	spliced   = "Both programs move the same data by the same splices. In two further runs with examples/proxy, the proxy by itself took 0.86 and 1.08 of the time of io.Copy, and together with its clients and backend 0.96 and 0.99: a splice does a part of the work of the program at the other end."
	versusGo  = "Where gnet takes less than 1.25 times what C takes, 0.8 of gnet is less than C."
)

// versus is a ratio to one contestant.
func versus(cell, contestant, other, name string) figureOf {
	return func(r *results) (spread, bool) { return r.ratio(cell, contestant, other, name, name) }
}

// versusBest is the ratio to the fastest other contestant, which is the greatest ratio.
func versusBest(cell, contestant, name string, others ...string) figureOf {
	return func(r *results) (worst spread, found bool) {
		for _, o := range others {
			if s, ok := r.ratio(cell, contestant, o, name, name); ok && s.median > worst.median {
				worst, found = s, true
			}
		}
		return worst, found
	}
}

func value(cell, contestant, name string) figureOf {
	return func(r *results) (spread, bool) { return r.get(cell, contestant, name) }
}

// flat is how much the cost grows with the number of registered descriptors.
func flat(contestant string) figureOf {
	return func(r *results) (spread, bool) {
		var v []float64
		for round := range r.figures[key{"event-registered-100", contestant, "ns"}] {
			low, high := math.Inf(1), 0.0
			for _, n := range []int{100, 1000, 9000} {
				x, ok := r.figures[key{fmt.Sprint("event-registered-", n), contestant, "ns"}][round]
				if !ok {
					return spread{}, false
				}
				low, high = min(low, x), max(high, x)
			}
			v = append(v, high/low)
		}
		return spreadOf(v)
	}
}

// none is the greatest number of allocations.
func none(contestant string) figureOf {
	return func(r *results) (most spread, found bool) {
		for _, name := range []string{"poll", "wait", "event", "register", "wake"} {
			if s, ok := r.get("allocs", contestant, name); ok {
				found, most.max = true, max(most.max, s.max)
			}
		}
		return spread{most.max, most.max, most.max}, found
	}
}

// dearer is how much longer waking a Poll takes than a channel.
func dearer(r *results) (spread, bool) {
	var v []float64
	for round, x := range r.figures[key{"wake-waiting", "epore-epoll", "ns"}] {
		if c, ok := r.figures[key{"wake-waiting", "net", "ns"}][round]; ok {
			v = append(v, x-c)
		}
	}
	return spreadOf(v)
}

var goals = []goal{
	{"G1", "an event, epoll, edge, parks: ratio to C", 1.25, versus("event-edge", "epore-epoll", "c-epoll", "ns"), inGo},
	{"G1", "the same: the stricter goal", 1.1, versus("event-edge", "epore-epoll", "c-epoll", "ns"), inGo},
	{"G1", "the same, blocks", 1.25, versus("event-edge", "epore-epoll-block", "c-epoll", "ns"), inGo},
	{"G1", "the same, parks: to the fastest Go peer", 1, versusBest("event-edge", "epore-epoll", "ns", "gnet", "gnet-opt", "easygo", "epoller"), unchecked},
	{"G2", "an event, io_uring: to mio", 0.85, versus("event-edge", "epore-uring", "mio", "ns"), smallRest},
	{"G2", "the same: to Epore on epoll, blocks", 0.65, versus("event-edge", "epore-uring", "epore-epoll-block", "ns"), smallRest},
	{"G3", "register + deregister, epoll: to C", 1.15, versus("register", "epore-epoll", "c-epoll", "ns"), calls},
	{"G3", "the same: to raw epoll in Go", 1.05, versus("register", "epore-epoll", "go-epoll", "ns"), calls},
	{"G3", "register + deregister, io_uring: to C", 1, versus("register", "epore-uring", "c-epoll", "ns"), ringReg},
	{"G4", "64 ready, level-triggered, each: to C", 1.15, versus("ready", "epore-epoll", "c-epoll", "ns"), ""},
	{"G5", "a round trip, parked, 1 pair: to net", 1.05, versus("pingpong-1", "epore-epoll", "net", "ns"), oneEvent},
	{"G5", "a round trip, parked, 10 pairs: to net", 0.8, versus("pingpong-10", "epore-epoll", "net", "ns"), ""},
	{"G5", "a round trip, parked, 200 pairs: to net", 0.6, versus("pingpong-200", "epore-epoll", "net", "ns"), ""},
	{"G6", "echo, CPU per message, 50 connections: to C", 1.05, versus("echo-50-64", "server-epore", "server-c-level", "cpu"), echoing},
	{"G6", "echo, CPU per message, 1,000 connections: to C", 1.05, versus("echo-1000-64", "server-epore", "server-c-level", "cpu"), echoing},
	{"G6", "echo, CPU per message, 5,000 connections: to C", 1.05, versus("echo-5000-64", "server-epore", "server-c-level", "cpu"), echoing},
	{"G6", "echo, 50 connections: to net", 0.85, versus("echo-50-64", "server-epore", "server-net", "cpu"), echoing},
	{"G6", "echo, 1,000 connections: to net", 0.72, versus("echo-1000-64", "server-epore", "server-net", "cpu"), echoing},
	{"G6", "echo, 5,000 connections: to net", 0.55, versus("echo-5000-64", "server-epore", "server-net", "cpu"), echoing},
	{"G6", "echo, 50 connections: to gnet", 0.8, versusBest("echo-50-64", "server-epore", "cpu", "server-gnet", "server-gnet-opt"), versusGo},
	{"G6", "echo, 1,000 connections: to gnet", 0.8, versusBest("echo-1000-64", "server-epore", "cpu", "server-gnet", "server-gnet-opt"), versusGo},
	{"G6", "echo, 5,000 connections: to gnet", 0.8, versusBest("echo-5000-64", "server-epore", "cpu", "server-gnet", "server-gnet-opt"), versusGo},
	{"G6", "echo on io_uring, 50 connections: to epoll, blocks", 1, versus("echo-50-64", "server-epore-uring", "server-epore-block", "cpu"), sameCalls},
	{"G6", "echo on io_uring, 1,000 connections: to epoll, blocks", 1, versus("echo-1000-64", "server-epore-uring", "server-epore-block", "cpu"), sameCalls},
	{"G6", "echo on io_uring, 5,000 connections: to epoll, blocks", 0.95, versus("echo-5000-64", "server-epore-uring", "server-epore-block", "cpu"), sameCalls},
	{"G7", "an event, 64 active of 100 to 9,000: dearest to cheapest", 1.3, flat("epore-epoll"), ""},
	{"G7", "the same for C, to compare with", 1.3, flat("c-epoll"), ""},
	{"G8", "allocations of any call, epoll", 0, none("epore-epoll"), ""},
	{"G8", "allocations of any call, io_uring", 0, none("epore-uring"), ""},
	{"G9", "memory of a registration, epoll, bytes", 64, value("memory", "epore-epoll", "bytes"), ""},
	{"G9", "memory of an idle TCP connection, of 8,000, bytes", 200, value("idle-8000", "server-epore", "bytes"), ""},
	{"G10", "a wake that coalesces, ns", 10, value("wake-coalesced", "epore-epoll", "ns"), ""},
	{"G10", "waking a parked Poll: more than a channel, ns", 1500, dearer, ""},
	{"G11", "100,000 timers, set: to time.AfterFunc", 1, versus("timers", "epore-epoll", "net", "set"), ""},
	{"G11", "stop: to time.AfterFunc", 1, versus("timers", "epore-epoll", "net", "stop"), ""},
	{"G11", "fire: to time.AfterFunc", 1, versus("timers", "epore-epoll", "net", "fire"), ""},
	{"G11", "fire, io_uring: to epoll, blocks", 1, versus("timers", "epore-uring", "epore-epoll-block", "fire"), sameHeap},
	{"G11", "set: to libuv", 1, versus("timers", "epore-epoll", "libuv", "set"), oneThread},
	{"G11", "stop: to libuv", 1, versus("timers", "epore-epoll", "libuv", "stop"), oneThread},
	{"G11", "fire: to libuv", 1, versus("timers", "epore-epoll", "libuv", "fire"), oneThread},
	{"G12", "threads for 1,000 waiting Polls", 16, value("threads", "epore-epoll", "threads"), ""},
	{"G13", "echo of datagrams, 8 clients with 16: batches to one at a time", 0.6, versus("udp-8x16", "sockets-epore", "sockets-epore-plain", "cpu"), ""},
	{"G13", "the same: to net", 0.5, versus("udp-8x16", "sockets-epore", "sockets-net", "cpu"), ""},
	{"G13", "echo of datagrams, 128 clients with one: batches to one at a time", 0.6, versus("udp-128x1", "sockets-epore", "sockets-epore-plain", "cpu"), addresses},
	{"G14", "a stream through a proxy: to net, which splices, too", 1, versus("proxy", "sockets-epore", "sockets-net", "cpu"), spliced},
	{"G15", "echo on package loop, 50 connections: to a loop by hand", 1.03, versus("echo-50-64", "server-epore-loop", "server-epore", "cpu"), checks},
	{"G15", "the same, 1,000 connections", 1.03, versus("echo-1000-64", "server-epore-loop", "server-epore", "cpu"), checks},
	{"G15", "the same, 5,000 connections", 1.03, versus("echo-5000-64", "server-epore-loop", "server-epore", "cpu"), checks},
	{"G15", "the same, 50 connections, messages of 4 KiB", 1.03, versus("echo-50-4096", "server-epore-loop", "server-epore", "cpu"), checks},
	{"G15", "the same, 50 connections, messages of 64 KiB", 1.03, versus("echo-50-65536", "server-epore-loop", "server-epore", "cpu"), checks},
	{"G16", "memory of an idle connection on package loop, of 8,000, bytes", 300, value("idle-8000", "server-epore-loop", "bytes"), ""},
	{"G17", "TLS echo on package loop, 1,000 connections: to a goroutine each", 0.75, versus("tls-echo-1000-64", "tls-epore-loop", "tls-net", "cpu"), cipher},
	{"G17", "memory of an idle TLS connection: to a goroutine each", 0.45, versus("tls-idle-2000", "tls-epore-loop", "tls-net", "bytes"), ""},
}

// goalsTable returns a table of the goals and the figures reached, and why goals are missed.
func (r *results) goalsTable() string {
	var b strings.Builder
	b.WriteString(r.describeRuns() + "\n\n| goal | | at most | reached | |\n|---|---|---|---|---|\n")
	reasons := make(map[string]string) // by goal
	for _, g := range goals {
		reached, verdict := "not measured", ""
		if s, ok := r.judged(g.figure); ok {
			reached, verdict = s.String(), "met"
			if s.median > g.limit {
				verdict = "**missed**"
				if !strings.Contains(reasons[g.id], g.why) {
					reasons[g.id] += " " + g.why
				}
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", g.id, g.what, number(g.limit), reached, verdict)
	}
	if len(reasons) > 0 {
		b.WriteString("\nWhy lines are missed:\n\n")
	}
	for _, g := range goals {
		if reason, ok := reasons[g.id]; ok {
			fmt.Fprintf(&b, "- %s:%s\n", g.id, reason)
			delete(reasons, g.id)
		}
	}
	return b.String()
}
