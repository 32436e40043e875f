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
	figure   func(*results) (spread, bool)
}

// versus is a ratio to one contestant.
func versus(cell, contestant, other, name string) func(*results) (spread, bool) {
	return func(r *results) (spread, bool) { return r.ratio(cell, contestant, other, name, name) }
}

// versusBest is the ratio to the fastest other contestant, which is the greatest ratio.
func versusBest(cell, contestant, name string, others ...string) func(*results) (spread, bool) {
	return func(r *results) (worst spread, found bool) {
		for _, o := range others {
			if s, ok := r.ratio(cell, contestant, o, name, name); ok && s.median > worst.median {
				worst, found = s, true
			}
		}
		return worst, found
	}
}

func value(cell, contestant, name string) func(*results) (spread, bool) {
	return func(r *results) (spread, bool) { return r.get(cell, contestant, name) }
}

// flat is how much the cost grows with the number of registered descriptors.
func flat(contestant string) func(*results) (spread, bool) {
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
func none(contestant string) func(*results) (spread, bool) {
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
	{"G1", "an event, epoll, edge, parks: ratio to C", 1.25, versus("event-edge", "epore-epoll", "c-epoll", "ns")},
	{"G1", "the same, blocks", 1.25, versus("event-edge", "epore-epoll-block", "c-epoll", "ns")},
	{"G1", "the same, parks: to the fastest Go peer", 1, versusBest("event-edge", "epore-epoll", "ns", "gnet", "gnet-opt", "easygo", "epoller")},
	{"G2", "an event, io_uring: to mio", 0.85, versus("event-edge", "epore-uring", "mio", "ns")},
	{"G2", "the same: to Epore on epoll, blocks", 0.65, versus("event-edge", "epore-uring", "epore-epoll-block", "ns")},
	{"G3", "register + deregister, epoll: to C", 1.15, versus("register", "epore-epoll", "c-epoll", "ns")},
	{"G3", "register + deregister, io_uring: to C", 1, versus("register", "epore-uring", "c-epoll", "ns")},
	{"G4", "64 ready, level-triggered, each: to C", 1.15, versus("ready", "epore-epoll", "c-epoll", "ns")},
	{"G5", "a round trip, parked, 1 pair: to net", 1.05, versus("pingpong-1", "epore-epoll", "net", "ns")},
	{"G5", "a round trip, parked, 10 pairs: to net", 0.8, versus("pingpong-10", "epore-epoll", "net", "ns")},
	{"G5", "a round trip, parked, 200 pairs: to net", 0.6, versus("pingpong-200", "epore-epoll", "net", "ns")},
	{"G6", "echo, CPU per message, 50 connections: to C", 1.05, versus("echo-50-64", "server-epore", "server-c-level", "cpu")},
	{"G6", "echo, CPU per message, 1,000 connections: to C", 1.05, versus("echo-1000-64", "server-epore", "server-c-level", "cpu")},
	{"G6", "echo, 50 connections: to net", 0.85, versus("echo-50-64", "server-epore", "server-net", "cpu")},
	{"G6", "echo, 1,000 connections: to net", 0.72, versus("echo-1000-64", "server-epore", "server-net", "cpu")},
	{"G6", "echo, 50 connections: to gnet", 0.8, versusBest("echo-50-64", "server-epore", "cpu", "server-gnet", "server-gnet-opt")},
	{"G6", "echo, 1,000 connections: to gnet", 0.8, versusBest("echo-1000-64", "server-epore", "cpu", "server-gnet", "server-gnet-opt")},
	{"G6", "echo on io_uring, 50 connections: to epoll, blocks", 1, versus("echo-50-64", "server-epore-uring", "server-epore-block", "cpu")},
	{"G6", "echo on io_uring, 1,000 connections: to epoll, blocks", 1, versus("echo-1000-64", "server-epore-uring", "server-epore-block", "cpu")},
	{"G6", "echo on io_uring, 5,000 connections: to epoll, blocks", 0.95, versus("echo-5000-64", "server-epore-uring", "server-epore-block", "cpu")},
	{"G7", "an event, 64 active of 100 to 9,000: dearest to cheapest", 1.3, flat("epore-epoll")},
	{"G7", "the same for C, to compare with", 1.3, flat("c-epoll")},
	{"G8", "allocations of any call, epoll", 0, none("epore-epoll")},
	{"G8", "allocations of any call, io_uring", 0, none("epore-uring")},
	{"G9", "memory of a registration, epoll, bytes", 64, value("memory", "epore-epoll", "bytes")},
	{"G9", "memory of an idle TCP connection, of 8,000, bytes", 200, value("idle-8000", "server-epore", "bytes")},
	{"G10", "a wake that coalesces, ns", 10, value("wake-coalesced", "epore-epoll", "ns")},
	{"G10", "waking a parked Poll: more than a channel, ns", 1500, dearer},
	{"G11", "100,000 timers, set: to time.AfterFunc", 1, versus("timers", "epore-epoll", "net", "set")},
	{"G11", "stop: to time.AfterFunc", 1, versus("timers", "epore-epoll", "net", "stop")},
	{"G11", "fire: to time.AfterFunc", 1, versus("timers", "epore-epoll", "net", "fire")},
	{"G11", "fire, io_uring: to epoll, blocks", 1, versus("timers", "epore-uring", "epore-epoll-block", "fire")},
	{"G11", "set: to libuv", 1, versus("timers", "epore-epoll", "libuv", "set")},
	{"G11", "stop: to libuv", 1, versus("timers", "epore-epoll", "libuv", "stop")},
	{"G11", "fire: to libuv", 1, versus("timers", "epore-epoll", "libuv", "fire")},
	{"G12", "threads for 1,000 waiting Polls", 16, value("threads", "epore-epoll", "threads")},
	{"G13", "echo of datagrams, 8 clients with 16: batches to one at a time", 0.6, versus("udp-8x16", "sockets-epore", "sockets-epore-plain", "cpu")},
	{"G13", "the same: to net", 0.5, versus("udp-8x16", "sockets-epore", "sockets-net", "cpu")},
	{"G13", "echo of datagrams, 128 clients with one: batches to one at a time", 0.6, versus("udp-128x1", "sockets-epore", "sockets-epore-plain", "cpu")},
	{"G14", "a stream through a proxy: to net, which splices, too", 1, versus("proxy", "sockets-epore", "sockets-net", "cpu")},
	{"G15", "echo on package loop, 50 connections: to a loop by hand", 1.03, versus("echo-50-64", "server-epore-loop", "server-epore", "cpu")},
	{"G15", "the same, 1,000 connections", 1.03, versus("echo-1000-64", "server-epore-loop", "server-epore", "cpu")},
	{"G15", "the same, 5,000 connections", 1.03, versus("echo-5000-64", "server-epore-loop", "server-epore", "cpu")},
	{"G15", "the same, 50 connections, messages of 4 KiB", 1.03, versus("echo-50-4096", "server-epore-loop", "server-epore", "cpu")},
	{"G15", "the same, 50 connections, messages of 64 KiB", 1.03, versus("echo-50-65536", "server-epore-loop", "server-epore", "cpu")},
	{"G16", "memory of an idle connection on package loop, of 8,000, bytes", 300, value("idle-8000", "server-epore-loop", "bytes")},
	{"G17", "TLS echo on package loop, 1,000 connections: to a goroutine each", 0.75, versus("tls-echo-1000-64", "tls-epore-loop", "tls-net", "cpu")},
	{"G17", "memory of an idle TLS connection: to a goroutine each", 0.45, versus("tls-idle-2000", "tls-epore-loop", "tls-net", "bytes")},
}

// goalsTable returns a table of the goals and the figures reached.
func (r *results) goalsTable() string {
	var b strings.Builder
	b.WriteString("| goal | | at most | reached | |\n|---|---|---|---|---|\n")
	for _, g := range goals {
		reached, verdict := "not measured", ""
		if s, ok := g.figure(r); ok {
			reached, verdict = s.String(), "met"
			if s.median > g.limit {
				verdict = "**missed**"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", g.id, g.what, number(g.limit), reached, verdict)
	}
	return b.String()
}
