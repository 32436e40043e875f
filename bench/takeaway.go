package main

import (
	"fmt"
	"strings"
)

// sentence is one thing to take away, with figures.
type sentence struct {
	format  string
	figures []figureOf
}

// figureOf computes a figure from the results of a run.
type figureOf func(*results) (spread, bool)

var sentences = []sentence{
	{"**A server.** With 1,000 connections, an echo server on a Poll takes %s times the processor time for a message that C takes with raw epoll. It takes %s times that of package net with a goroutine for each connection, and %s times that of gnet.",
		[]figureOf{
			versus("echo-1000-64", "server-epore", "server-c-level", "cpu"), versus("echo-1000-64", "server-epore", "server-net", "cpu"),
			versusBest("echo-1000-64", "server-epore", "cpu", "server-gnet", "server-gnet-opt"),
		}},
	{"**Package loop** takes %s times the processor time of that loop, which is written by hand.",
		[]figureOf{versus("echo-1000-64", "server-epore-loop", "server-epore", "cpu")}},
	{"**A connection that does nothing** takes %s bytes of memory; with package net and its goroutine, %s.",
		[]figureOf{value("idle-8000", "server-epore", "bytes"), value("idle-8000", "server-net", "bytes")}},
	{"**Over TLS**, it takes %s times the memory of a connection with a goroutine, and a message %s times the processor time.",
		[]figureOf{versus("tls-idle-2000", "tls-epore-loop", "tls-net", "bytes"), versus("tls-echo-1000-64", "tls-epore-loop", "tls-net", "cpu")}},
	{"**An event** costs %s times what it costs with raw epoll in C, and allocates nothing. On io_uring, it costs %s times what it costs in C.",
		[]figureOf{versus("event-edge", "epore-epoll", "c-epoll", "ns"), versus("event-edge", "epore-uring", "c-epoll", "ns")}},
	{"**Waiting** holds no thread: 1,000 goroutines that wait in a Poll each need %s threads.",
		[]figureOf{value("threads", "epore-epoll", "threads")}},
	{"**Where package net is as good.** With a single connection between two goroutines, a round trip takes %s times as long as in package net. With 10 of them it takes %s times as long, because one wait returns several events.",
		[]figureOf{versus("pingpong-1", "epore-epoll", "net", "ns"), versus("pingpong-10", "epore-epoll", "net", "ns")}},
}

// The pictures on the first screen.
var takeawayPictures = []string{"echo-by-connections", "idle"}

// takeaway returns what the first screen of docs/benchmarks.md says. Sentences whose figures
// were not measured are left out.
func (r *results) takeaway() string {
	var b strings.Builder
	for _, s := range sentences {
		var figures []any
		for _, f := range s.figures {
			if v, ok := r.judged(f); ok {
				figures = append(figures, number(v.median))
			}
		}
		if len(figures) == len(s.figures) {
			fmt.Fprintf(&b, "- "+s.format+"\n", figures...)
		}
	}
	met, missed, measured := 0, []string(nil), 0
	for _, g := range goals {
		s, ok := r.judged(g.figure)
		switch {
		case !ok:
			continue
		case s.median <= g.limit:
			met++
		case len(missed) == 0 || missed[len(missed)-1] != g.id:
			missed = append(missed, g.id)
		}
		measured++
	}
	if measured > 0 {
		fmt.Fprintf(&b, "- %d of %d [goals](#the-goals) are met.", met, measured)
		if len(missed) > 0 {
			fmt.Fprintf(&b, " Lines of %s are missed.", strings.Join(missed, ", "))
		}
		b.WriteString("\n")
	}
	if pictures := r.pictures(takeawayPictures); pictures != "" {
		b.WriteString("\n" + pictures)
	}
	return b.String() + "\n" + r.describeRuns() + "\n"
}

// growth returns the pictures of how costs grow.
func (r *results) growth() string {
	var files []string
	for _, c := range allCurves {
		if c.growth {
			files = append(files, c.file)
		}
	}
	return r.pictures(files)
}

// pictures returns links to those of the pictures that have figures.
func (r *results) pictures(files []string) string {
	var b strings.Builder
	for _, file := range files {
		for _, c := range allCurves {
			if c.file == file && len(r.lines(c)) > 0 {
				fmt.Fprintf(&b, "![%s](benchmarks/%s.png)\n", c.title, file)
			}
		}
		for _, bars := range allBars {
			if bars.file == file && r.hasBars(bars) {
				fmt.Fprintf(&b, "![%s](benchmarks/%s.png)\n", bars.title, file)
			}
		}
	}
	return b.String()
}
