// Programs compares programs that people know with the servers that they would otherwise
// take: HTTP under wrk, the protocol of Redis under redis-benchmark, a TCP proxy, and a chat
// over WebSockets. The figures are the processor time of the server for a unit of work, user
// and system, and its resident memory; for bulk data through a proxy also the processor time of
// all programs that take part. It runs on Linux.
//
//	go -C bench/programs run . [-rounds 3] [-quick] [-only REGEXP] [-out FILE]
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// contestant is a server, and how it is started.
type contestant struct {
	id, title string
	// command returns the program and its arguments. It gets the folder of programs, a port
	// that is free, and the address of the backend, if the cell has one. If it is nil, the
	// server is this program, with the id and the backend as arguments.
	command func(bin, port, backend string) []string
}

var http = []contestant{
	{id: "http-loop", title: "**Epore**, package loop"},
	{id: "http-net", title: "net/http"},
	{id: "http-fasthttp", title: "fasthttp"},
	{id: "http-gnet", title: "gnet, one event loop"},
}

var resp = []contestant{
	{"resp-loop", "**Epore**, examples/resp", func(bin, port, _ string) []string {
		return []string{filepath.Join(bin, "resp"), "-addr", "127.0.0.1:" + port}
	}},
	{"redis-server", "redis-server", func(_, port, _ string) []string {
		return []string{"redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--io-threads", "1"}
	}},
	{id: "resp-redcon", title: "redcon"},
	{id: "resp-gnet", title: "gnet, one event loop, redcon's parser"},
}

var proxy = []contestant{
	{"proxy-loop", "**Epore**, examples/proxy", func(bin, port, backend string) []string {
		return []string{filepath.Join(bin, "proxy"), "-addr", "127.0.0.1:" + port, backend}
	}},
	{id: "proxy-net", title: "package net: io.Copy, two goroutines a connection"},
	{"haproxy", "haproxy, one thread, splice-auto", haproxy},
}

var chat = []contestant{
	{"chat-loop", "**Epore**, examples/chat", func(bin, port, _ string) []string {
		return []string{filepath.Join(bin, "chat"), "-addr", "127.0.0.1:" + port, "-ping", "1h"}
	}},
	{id: "chat-gorilla", title: "gorilla/websocket, a goroutine a connection"},
	{id: "chat-gobwas", title: "gobwas/ws, a goroutine a connection"},
	{id: "chat-nbio", title: "nbio, one poller"},
}

// cell is a measure of several contestants.
type cell struct {
	id, title   string
	unit        string // of the figures
	rounds      int    // at least so many, where a run takes a second and its figures vary
	contestants []contestant
	tool        string // a program that the measure needs, if any
	backend     func(bin string) (addr string, stop func(), err error)
	measure     func(s *server, quick bool) (figure float64, err error)
}

// What the figures of most cells are.
const (
	nsRequest    = "ns of processor time for a request"
	nsMessage    = "ns of processor time for a message to a member"
	msGigabit    = "ms of processor time for a gigabit"
	msGigabitAll = "ms of processor time of proxy, clients and backend for a gigabit"
	resident     = "bytes of memory for a connection"
)

var cells = []cell{
	{id: "http-50", title: "HTTP, a short answer, 50 connections", unit: nsRequest, contestants: http, tool: "wrk", measure: wrk(50)},
	{id: "http-1000", title: "HTTP, a short answer, 1,000 connections", unit: nsRequest, contestants: http, tool: "wrk", measure: wrk(1000)},
	{id: "get-50-1", title: "GET, 50 connections, one request at a time", unit: nsRequest, contestants: resp, tool: "redis-benchmark", measure: redis(50, 1)},
	{id: "get-1000-1", title: "GET, 1,000 connections, one request at a time", unit: nsRequest, contestants: resp, tool: "redis-benchmark", measure: redis(1000, 1)},
	{id: "get-50-16", rounds: 7, title: "GET, 50 connections, 16 requests at a time", unit: nsRequest, contestants: resp, tool: "redis-benchmark", measure: redis(50, 16)},
	{id: "get-1000-16", rounds: 7, title: "GET, 1,000 connections, 16 requests at a time", unit: nsRequest, contestants: resp, tool: "redis-benchmark", measure: redis(1000, 16)},
	{id: "proxy-bulk", rounds: 7, title: "TCP proxy, 4 downloads at a time", unit: msGigabit, contestants: proxy, backend: sender, measure: download(4, (*server).processorTime)},
	// The kernel does much of the work of a connection in the time of whichever program runs when a
	// packet or an acknowledgement arrives, so the figures of the proxy alone depend on that, too.
	{id: "proxy-bulk-all", rounds: 7, title: "TCP proxy, 4 downloads at a time, with clients and backend", unit: msGigabitAll, contestants: proxy, backend: sender, measure: download(4, (*server).withEnds)},
	{id: "proxy-http", title: "TCP proxy, HTTP through 50 connections", unit: nsRequest, contestants: proxy, tool: "wrk", backend: httpServer, measure: wrk(50)},
	{id: "chat-idle", title: "Chat, 5,000 idle members", unit: resident, contestants: chat, measure: idle(5000)},
	{id: "chat-broadcast", title: "Chat, a message to a room of 1,000 members", unit: nsMessage, contestants: chat, measure: broadcast(1000)},
}

func main() {
	log.SetFlags(0)
	if len(os.Args) >= 3 && os.Args[1] == "serve" {
		log.Fatal(serve(os.Args[2], strings.Join(os.Args[3:], "")))
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "number of `rounds`; some cells, whose runs are short, have at least 7")
	flag.BoolVar(&o.quick, "quick", false, "one round of short runs, whose figures mean nothing")
	flag.StringVar(&o.only, "only", "", "measure cells whose name matches this `expression` only")
	flag.StringVar(&o.out, "out", "", "`file` for the tables (empty: standard output); the plot goes next to it, as .svg")
	flag.Parse()
	if o.quick {
		o.rounds = 1
	}
	if err := o.compare(); err != nil {
		log.Fatal("programs: ", err)
	}
}

type options struct {
	rounds    int
	quick     bool
	only, out string
}

// examples are the example programs that take part.
var examples = []string{"resp", "proxy", "chat"}

func (o *options) compare() error {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return err
	}
	bin, err := os.MkdirTemp("", "programs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	for _, name := range examples {
		build := exec.Command("go", "-C", "../../examples/"+name, "build", "-o", filepath.Join(bin, name), ".")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build examples/%s: %w: %s", name, err, out)
		}
	}
	began, before := time.Now(), load()
	var results []*result
	for i := range cells {
		if !only.MatchString(cells[i].id) {
			continue
		}
		rounds := o.rounds
		if !o.quick {
			rounds = max(rounds, cells[i].rounds)
		}
		r, err := cells[i].run(bin, rounds, o.quick)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- written by bench/programs; not by hand -->\n\n# Programs, by their usual clients\n\n"+
		"Measured on %s in %s by `go -C bench/programs run .`: %s, %s, %d processors. Each figure is a median (lowest to highest) of %d rounds"+
		" (of at least 7 for GET at depth 16 and downloads through a proxy), in which the contestants take turns. Ratios are the median of those in one round.\n\n",
		began.UTC().Format(time.DateOnly), time.Since(began).Round(time.Second), runtime.Version(), kernel(), runtime.NumCPU(), o.rounds)
	fmt.Fprintf(&b, "Load of the machine before the first run and after the last one: %s and %s. Server and clients share the processors, and a"+
		" load above 1 before the first run means that other programs ran, too: then compare the ratios rather than the figures.\n", before, load())
	if o.out == "" {
		writeTables(&b, results)
		_, err = io.WriteString(os.Stdout, b.String())
		return err
	}
	plot := strings.TrimSuffix(o.out, filepath.Ext(o.out)) + ".svg"
	if err := os.WriteFile(plot, []byte(drawn(results)), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(&b, "\n![Each contestant compared with Epore](%s)\n", filepath.Base(plot))
	writeTables(&b, results)
	return os.WriteFile(o.out, []byte(b.String()), 0o644)
}

func kernel() string {
	out, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "Linux"
	}
	release, _, _ := strings.Cut(strings.TrimSpace(string(out)), "-")
	return "Linux " + release
}

// load returns the load average of the last minute.
func load() string {
	out, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(out))[0]
}

// result is what a cell has measured.
type result struct {
	*cell
	skipped string      // why nothing was measured
	figures [][]float64 // by contestant and round
	missing []string    // why a contestant was not measured
}

// run measures all contestants, in turns.
func (c *cell) run(bin string, rounds int, quick bool) (*result, error) {
	r := &result{cell: c, figures: make([][]float64, len(c.contestants)), missing: make([]string, len(c.contestants))}
	if c.tool != "" {
		if _, err := exec.LookPath(c.tool); err != nil {
			r.skipped = c.tool + " is missing"
			return r, nil
		}
	}
	var backend string
	if c.backend != nil {
		addr, stop, err := c.backend(bin)
		if err != nil {
			return nil, fmt.Errorf("%s: backend: %w", c.title, err)
		}
		defer stop()
		backend = addr
	}
	for round := range rounds {
		for j := range c.contestants {
			i := (j + round) % len(c.contestants)
			k := &c.contestants[i]
			log.Printf("round %d of %d: %s: %s", round+1, rounds, c.title, k.id)
			s, err := k.start(bin, backend)
			if errors.Is(err, exec.ErrNotFound) {
				r.missing[i] = err.Error()
				continue
			}
			var figure float64
			if err == nil {
				figure, err = c.measure(s, quick)
				s.stop()
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", c.title, k.id, err)
			}
			r.figures[i] = append(r.figures[i], figure)
		}
	}
	return r, nil
}

// ratios returns the figures of a contestant divided by those of the first one, by round.
func (r *result) ratios(i int) (all []float64) {
	for round, figure := range r.figures[i] {
		all = append(all, figure/r.figures[0][round])
	}
	return all
}

func writeTables(b *strings.Builder, results []*result) {
	for _, r := range results {
		fmt.Fprintf(b, "\n## %s\n\n", r.title)
		if r.skipped != "" {
			fmt.Fprintf(b, "not measured: %s\n", r.skipped)
			continue
		}
		fmt.Fprintf(b, "| | %s | compared with the first |\n|---|---|---|\n", r.unit)
		for i, k := range r.contestants {
			if r.missing[i] != "" {
				fmt.Fprintf(b, "| %s | not measured: %s | |\n", k.title, r.missing[i])
				continue
			}
			digits := 0
			if median(r.figures[i]) < 100 {
				digits = 1
			}
			fmt.Fprintf(b, "| %s | %s | %s |\n", k.title, spread(r.figures[i], digits), spread(r.ratios(i), 2))
		}
	}
}

func median(all []float64) float64 {
	s := slices.Sorted(slices.Values(all))
	return s[len(s)/2]
}

func spread(all []float64, digits int) string {
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, median(all), digits, slices.Min(all), digits, slices.Max(all))
}

// server is a contestant that runs.
type server struct {
	addr string
	cmd  *exec.Cmd
}

// start starts a contestant, and waits until it listens.
func (k *contestant) start(bin, backend string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{addr: l.Addr().String()}
	_, port, err := net.SplitHostPort(s.addr)
	if err = errors.Join(err, l.Close()); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{self, "serve", k.id, backend}
	if k.command != nil {
		args = k.command(bin, port, backend)
	}
	s.cmd = exec.Command(args[0], args[1:]...)
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	// Those that can choose a port say which one they have. The others have the given one.
	lines := make(chan string, 1)
	go func() {
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			if _, after, found := strings.Cut(scanner.Text(), "listening on "); found {
				addr, _, _ := strings.Cut(strings.TrimPrefix(after, "http://"), ";")
				lines <- addr
				break
			}
		}
		_, _ = io.Copy(io.Discard, stdout)
	}()
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(5 * time.Millisecond) {
		select {
		case s.addr = <-lines:
		default:
		}
		if c, err := net.Dial("tcp", s.addr); err == nil {
			return s, c.Close()
		}
	}
	s.stop()
	return nil, errors.New("it did not start")
}

// stop ends the server. Nothing that it says at its end is of interest.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	_ = s.cmd.Wait()
}
