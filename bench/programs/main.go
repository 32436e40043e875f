// Programs compares programs that speak HTTP and the protocol of Redis, by their usual
// clients: wrk and redis-benchmark. The figure is the processor time of the server for one
// request, user and system, from /proc. It runs on Linux.
//
//	go -C bench/programs run . [-rounds 3] [-quick] [-out FILE]
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
	"strconv"
	"strings"
	"syscall"
	"time"
)

// contestant is a server, and how it is started.
type contestant struct {
	id, title string
	command   func(bin, port string) []string // nil: this program, with the id as argument
}

var http = []contestant{
	{id: "http-loop", title: "**Epore**, package loop"},
	{id: "http-net", title: "net/http"},
	{id: "http-fasthttp", title: "fasthttp"},
	{id: "http-gnet", title: "gnet, one event loop"},
}

var resp = []contestant{
	{"resp-loop", "**Epore**, examples/resp", func(bin, port string) []string {
		return []string{filepath.Join(bin, "resp"), "-addr", "127.0.0.1:" + port}
	}},
	{"redis-server", "redis-server", func(_, port string) []string {
		return []string{"redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--io-threads", "1"}
	}},
	{id: "resp-redcon", title: "redcon"},
	{id: "resp-gnet", title: "gnet, one event loop, redcon's parser"},
}

// cell is a measure.
type cell struct {
	title       string
	contestants []contestant
	tool        string
	load        func(addr string, quick bool) (requests int, err error)
}

var cells = []cell{
	{"HTTP, a short answer, 50 connections", http, "wrk", wrk(50)},
	{"HTTP, a short answer, 1,000 connections", http, "wrk", wrk(1000)},
	{"GET, 50 connections, one request at a time", resp, "redis-benchmark", redis(50, 1)},
	{"GET, 1,000 connections, one request at a time", resp, "redis-benchmark", redis(1000, 1)},
	{"GET, 50 connections, 16 requests at a time", resp, "redis-benchmark", redis(50, 16)},
	{"GET, 1,000 connections, 16 requests at a time", resp, "redis-benchmark", redis(1000, 16)},
}

func wrk(connections int) func(string, bool) (int, error) {
	total := regexp.MustCompile(`(\d+) requests in`)
	failed := regexp.MustCompile(`(?m)^ *(Socket errors|Non-2xx).*`)
	return func(addr string, quick bool) (int, error) {
		seconds := 3
		if quick {
			seconds = 1
		}
		out, err := exec.Command("wrk", "-t1", "-c", strconv.Itoa(connections), "-d", fmt.Sprint(seconds, "s"), "http://"+addr+"/").CombinedOutput()
		if bad := failed.Find(out); err == nil && bad != nil {
			err = errors.New(string(bad))
		}
		m := total.FindSubmatch(out)
		if err != nil || m == nil {
			return 0, fmt.Errorf("wrk: %w: %s", err, out)
		}
		return strconv.Atoi(string(m[1]))
	}
}

func redis(connections, depth int) func(string, bool) (int, error) {
	return func(addr string, quick bool) (int, error) {
		n := 150_000
		if depth > 1 {
			n = 1_000_000
		}
		if quick {
			n = 20_000
		}
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return 0, err
		}
		out, err := exec.Command("redis-benchmark", "-p", port, "-t", "get", "-q",
			"-n", strconv.Itoa(n), "-P", strconv.Itoa(depth), "-c", strconv.Itoa(connections)).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("redis-benchmark: %w: %s", err, out)
		}
		return n, nil
	}
}

func main() {
	log.SetFlags(0)
	if len(os.Args) == 3 && os.Args[1] == "serve" {
		log.Fatal(serve(os.Args[2]))
	}
	rounds := flag.Int("rounds", 3, "number of `rounds`")
	quick := flag.Bool("quick", false, "short runs, whose figures mean nothing")
	out := flag.String("out", "", "`file` for the tables (empty: standard output)")
	flag.Parse()
	if err := compare(*rounds, *quick, *out); err != nil {
		log.Fatal("programs: ", err)
	}
}

func compare(rounds int, quick bool, file string) error {
	bin, err := os.MkdirTemp("", "programs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	build := exec.Command("go", "-C", "../../examples/resp", "build", "-o", filepath.Join(bin, "resp"), ".")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build examples/resp: %w: %s", err, out)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Programs, by their usual clients\n\nMade by `go -C bench/programs run .`: %s, %s, %d processors, median (lowest to highest) of %d rounds.\n"+
		"Processor time of the server, in ns for a request. Ratios are the median of those in one round.\n",
		runtime.Version(), kernel(), runtime.NumCPU(), rounds)
	for i := range cells {
		if err := cells[i].run(&b, bin, rounds, quick); err != nil {
			return err
		}
	}
	if file != "" {
		return os.WriteFile(file, []byte(b.String()), 0o644)
	}
	_, err = io.WriteString(os.Stdout, b.String())
	return err
}

func kernel() string {
	out, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "Linux"
	}
	return "Linux " + strings.TrimSpace(string(out))
}

// run measures all contestants, in turns, and writes a table.
func (c *cell) run(b *strings.Builder, bin string, rounds int, quick bool) error {
	fmt.Fprintf(b, "\n## %s\n\n", c.title)
	if _, err := exec.LookPath(c.tool); err != nil {
		fmt.Fprintf(b, "not measured: %s is missing\n", c.tool)
		return nil
	}
	figures := make([][]float64, len(c.contestants))
	missing := make([]string, len(c.contestants))
	for round := range rounds {
		for j := range c.contestants {
			i := (j + round) % len(c.contestants)
			log.Printf("round %d of %d: %s: %s", round+1, rounds, c.title, c.contestants[i].id)
			ns, err := c.measure(&c.contestants[i], bin, quick)
			if errors.Is(err, exec.ErrNotFound) {
				missing[i] = err.Error()
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %s: %w", c.title, c.contestants[i].id, err)
			}
			figures[i] = append(figures[i], ns)
		}
	}
	fmt.Fprint(b, "| | ns of processor time | compared with the first |\n|---|---|---|\n")
	for i, k := range c.contestants {
		if missing[i] != "" {
			fmt.Fprintf(b, "| %s | not measured: %s | |\n", k.title, missing[i])
			continue
		}
		var ratios []float64
		for round, ns := range figures[i] {
			ratios = append(ratios, ns/figures[0][round])
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", k.title, spread(figures[i], 0), spread(ratios, 2))
	}
	return nil
}

func spread(all []float64, digits int) string {
	s := slices.Sorted(slices.Values(all))
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, s[len(s)/2], digits, s[0], digits, s[len(s)-1])
}

// measure starts a server, loads it, and returns the ns of its processor time for a request.
func (c *cell) measure(k *contestant, bin string, quick bool) (float64, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	addr := l.Addr().String()
	_, port, err := net.SplitHostPort(addr)
	if err = errors.Join(err, l.Close()); err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, "serve", k.id)
	if k.command != nil {
		args := k.command(bin, port)
		cmd = exec.Command(args[0], args[1:]...)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
	}()
	started := false
	for lines := bufio.NewScanner(stdout); !started && lines.Scan(); {
		if _, after, found := strings.Cut(lines.Text(), "listening on "); found {
			addr, _, _ = strings.Cut(after, ";")
			started = true
		}
		started = started || strings.Contains(lines.Text(), "Ready to accept connections")
	}
	if !started {
		return 0, errors.New("it did not start")
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	if _, err := c.load(addr, true); err != nil { // warms it up
		return 0, err
	}
	before, err := processorTime(cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	n, err := c.load(addr, quick)
	if err != nil {
		return 0, err
	}
	after, err := processorTime(cmd.Process.Pid)
	return float64((after - before).Nanoseconds()) / float64(n), err
}

// processorTime returns what a process has used: fields 14 and 15 of proc_pid_stat(5), in
// ticks of 10 ms.
func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err, err2)
}
