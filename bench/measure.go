package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// statusMissing is the exit status of a contestant that does not have a measure.
const statusMissing = 3

// limit is the maximum time of one run. A run that takes longer hangs.
const limit = 2 * time.Minute

// measureAll runs all cells, round by round. The contestants of a cell run one after
// another, in a different order each time.
func measureAll(ctx context.Context, c *config, bin string, r *results, out io.Writer) error {
	total, done := 0, 0
	var plan [][]*contestant // by cell
	for i := range cells {
		var list []*contestant
		for j := range contestants {
			k := &contestants[j]
			if cells[i].takesPart(k) && r.missing[k.id] == "" && (!k.server || r.missing[k.client()] == "") && c.only.MatchString(cells[i].id+"/"+k.id) {
				list = append(list, k)
			}
		}
		plan = append(plan, list)
		total += len(list) * roundsOf(&cells[i], c.rounds)
	}
	begin := time.Now()
	for round := range c.rounds {
		for i := range cells {
			cell := &cells[i]
			if round >= roundsOf(cell, c.rounds) {
				continue
			}
			for j := range plan[i] {
				k := plan[i][(j+round)%len(plan[i])]
				progress(out, fmt.Sprintf("round %d of %d: %s/%s", round+1, c.rounds, cell.id, k.id), done, total, time.Since(begin))
				done++
				if r.lacks[[2]string{cell.id, k.id}] {
					continue
				}
				figures, err := runOne(ctx, c, bin, cell, k)
				switch {
				case ctx.Err() != nil:
					return ctx.Err()
				case errors.Is(err, errLacks):
					r.lacks[[2]string{cell.id, k.id}] = true
				case err != nil:
					r.failed = append(r.failed, fmt.Sprintf("%s/%s: %v", cell.id, k.id, err))
				}
				for _, f := range figures {
					r.add(cell.id, k.id, f.name, round, f.value)
				}
			}
		}
	}
	fmt.Fprintln(out)
	return nil
}

func roundsOf(c *cell, rounds int) int {
	if c.rounds > 0 {
		return min(c.rounds, rounds)
	}
	return rounds
}

// progress prints a line of progress. On a terminal it replaces the previous one.
func progress(out io.Writer, what string, done, total int, since time.Duration) {
	left := ""
	if done > 0 {
		left = fmt.Sprintf(", about %s left", (since * time.Duration(total-done) / time.Duration(done)).Round(time.Second))
	}
	line := fmt.Sprintf("%4d/%d %s%s", done, total, what, left)
	if f, ok := out.(interface{ Fd() uintptr }); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			fmt.Fprintf(out, "\r\x1b[K%s", line)
			return
		}
	}
	fmt.Fprintln(out, line)
}

var errLacks = errors.New("it does not have this")

// figure is what a contestant printed.
type figure struct {
	name  string
	value float64
}

func runOne(ctx context.Context, c *config, bin string, cell *cell, k *contestant) ([]figure, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	args := cell.args
	if c.quick {
		args = cell.quick
	}
	switch cell.kind {
	case serve:
		return underLoad(ctx, bin, args, k)
	case idle:
		return withIdle(ctx, bin, args, k)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, k.program), append(append([]string{}, args...), k.args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := start(cmd, cell.pinned, 0); err != nil {
		return nil, err
	}
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() == statusMissing {
		return nil, errLacks
	}
	if err != nil {
		text, _, _ := strings.Cut(stderr.String(), "\n")
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	return figuresOf(stdout.String())
}

// figuresOf reads lines of a name and a number.
func figuresOf(text string) (list []figure, err error) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("it printed %q, where a name and a number should be", line)
		}
		list = append(list, figure{name, v})
	}
	if len(list) == 0 {
		return nil, errors.New("it printed nothing")
	}
	return list, nil
}

// start starts a command. If pinned, it runs on the nth processor that this process may
// use, or on the last.
func start(cmd *exec.Cmd, pinned bool, nth int) error {
	if !pinned {
		return cmd.Start()
	}
	// A process inherits the processors of the thread that starts it. The thread is not
	// reused: it ends with its goroutine.
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		started <- startOn(cmd, nth)
	}()
	return <-started
}

func startOn(cmd *exec.Cmd, nth int) error {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	cpu := -1
	for i := 0; i < len(all)*64 && nth >= 0; i++ {
		if all.IsSet(i) {
			cpu, nth = i, nth-1
		}
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	return cmd.Start()
}

// server is a running server.
type server struct {
	cmd     *exec.Cmd
	address string
	stderr  bytes.Buffer
}

// startServer starts a server on the first processor and waits until it listens.
func startServer(ctx context.Context, bin string, k *contestant) (*server, error) {
	s := &server{cmd: exec.CommandContext(ctx, filepath.Join(bin, k.program), k.args...)}
	s.cmd.Stderr = &s.stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := start(s.cmd, true, 0); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(stdout)
	if lines.Scan() {
		_, s.address, _ = strings.Cut(lines.Text(), "listening on ")
		s.address, _, _ = strings.Cut(s.address, ",")
	}
	if s.address == "" {
		s.end()
		return nil, fmt.Errorf("the server does not say where it listens: %s", &s.stderr)
	}
	go io.Copy(io.Discard, stdout)
	return s, nil
}

// end kills the server. It keeps no data.
func (s *server) end() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// used returns the processor time that the server has used so far.
func (s *server) used() (time.Duration, error) {
	var ts unix.Timespec
	clock := int32(^s.cmd.Process.Pid<<3 | 2) // clock_getcpuclockid(3)
	err := unix.ClockGettime(clock, &ts)
	return time.Duration(ts.Nano()), err
}

// underLoad returns the server's cost of a message, and the client's figures.
func underLoad(ctx context.Context, bin string, args []string, k *contestant) (list []figure, err error) {
	s, err := startServer(ctx, bin, k)
	if err != nil {
		return nil, err
	}
	defer s.end()
	var from, to time.Duration
	err = load(ctx, filepath.Join(bin, k.client()), append([]string{s.address}, args...), func(line string, _ func()) error {
		switch line {
		case "connected":
		case "begin":
			from, err = s.used()
		case "end":
			to, err = s.used()
		default:
			var figures []figure
			figures, err = figuresOf(line)
			list = append(list, figures...)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var messages, seconds float64
	for _, f := range list {
		switch f.name {
		case "messages":
			messages = f.value
		case "seconds":
			seconds = f.value
		}
	}
	if messages == 0 || seconds == 0 {
		return nil, fmt.Errorf("no message came back: %v", list)
	}
	return append(list, figure{"cpu", float64(to-from) / messages}, figure{"rate", messages / seconds}), nil
}

// load runs a client on the second processor and calls each for every line of output.
// release closes the client's standard input: a client that only holds connections waits
// for that.
func load(ctx context.Context, program string, args []string, each func(line string, release func()) error) error {
	cmd := exec.CommandContext(ctx, program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := start(cmd, true, 1); err != nil {
		return err
	}
	var failed error
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		failed = errors.Join(failed, each(lines.Text(), func() { stdin.Close() }))
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the client: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return failed
}

// withIdle returns the server's memory for each idle connection, after one message on each.
func withIdle(ctx context.Context, bin string, args []string, k *contestant) (list []figure, err error) {
	s, err := startServer(ctx, bin, k)
	if err != nil {
		return nil, err
	}
	defer s.end()
	before, err := anonymous(s.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	var connections float64
	err = load(ctx, filepath.Join(bin, k.client()), append([]string{s.address}, args...), func(line string, release func()) error {
		if rest, ok := strings.CutPrefix(line, "connections "); ok {
			connections, err = strconv.ParseFloat(rest, 64)
			return err
		}
		if line != "connected" {
			return fmt.Errorf("the client says %q", line)
		}
		defer release()
		after, err := anonymous(s.cmd.Process.Pid)
		if connections == 0 {
			return errors.Join(err, errors.New("the client does not say how many connections it made"))
		}
		list = []figure{{"bytes", float64(after-before) / connections}, {"connections", connections}}
		return err
	})
	return list, err
}
