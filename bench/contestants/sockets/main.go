// Sockets measures what moving data costs a server: datagrams that it echoes, a stream that
// it forwards. It follows the protocol of the queues, with other measures and arguments:
//
//	sockets udp   way=WAY [clients=N] [window=N] [milliseconds=N]
//	sockets proxy way=WAY [milliseconds=N]
//
// WAY is fast (batches, splice), plain (one at a time, Read and Write) or net (package net).
// The load is this program once more, on other processors. The figure cpu is the processor
// time of this process: for each datagram in nanoseconds, for a gigabit in milliseconds.
//
// It runs on Linux.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// arguments of a measure.
type arguments struct {
	way             string
	clients, window int
	duration        time.Duration
}

func main() {
	err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "sockets:", err)
	}
	switch {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case errors.Is(err, errMissing):
		os.Exit(3)
	case err != nil:
		os.Exit(1)
	}
}

var (
	errUsage   = errors.New("usage: sockets MEASURE way=WAY [KEY=N...]")
	errMissing = errors.New("no such measure")
)

func run(args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	a := arguments{clients: 8, window: 16, duration: 800 * time.Millisecond}
	address := ""
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		n, err := strconv.Atoi(value)
		switch key {
		case "way":
			a.way, err = value, nil
		case "address":
			address, err = value, nil
		case "clients":
			a.clients = n
		case "window":
			a.window = n
		case "milliseconds":
			a.duration = time.Duration(n) * time.Millisecond
		default:
			err = errUsage
		}
		if err != nil {
			return fmt.Errorf("%s: %w", arg, errors.Join(errUsage, err))
		}
	}
	switch args[0] {
	case "udp":
		return measureUDP(a)
	case "udp-load":
		return loadUDP(address, a)
	case "proxy":
		return measureProxy(a)
	case "proxy-load":
		return loadProxy(address)
	}
	return errMissing
}

// startLoad starts this program as the load, and returns the first line that it prints.
func startLoad(measure, address string, a arguments) (cmd *exec.Cmd, line string, err error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	cmd = exec.Command(executable, measure+"-load", "address="+address, fmt.Sprint("clients=", a.clients), fmt.Sprint("window=", a.window))
	cmd.Stderr = os.Stderr
	// It ends with the end of its input, whatever becomes of this process.
	if _, err = cmd.StdinPipe(); err != nil {
		return nil, "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	buf := make([]byte, 100)
	n, err := out.Read(buf)
	if err != nil {
		stopLoad(cmd)
		return nil, "", err
	}
	return cmd, strings.TrimSpace(string(buf[:n])), nil
}

func stopLoad(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// leaveProcessor moves this process to other processors than that of its parent, where there
// are others, and has it end with its parent.
func leaveProcessor() {
	var others unix.CPUSet
	if unix.SchedGetaffinity(0, &others) == nil {
		var all unix.CPUSet
		for i := range len(all) * 64 {
			if !others.IsSet(i) {
				all.Set(i)
			}
		}
		_ = unix.SchedSetaffinity(0, &all)
	}
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
}

// sample measures between two looks at a counter: the processor time of this process for one,
// and how many there were in a second.
func sample(a arguments, count func() (int64, error)) (cpu, rate float64, err error) {
	time.Sleep(a.duration / 4) // until everything runs
	var counts [2]int64
	var used [2]time.Duration
	for i := range counts {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
			return 0, 0, err
		}
		used[i] = time.Duration(ts.Nano())
		if counts[i], err = count(); err != nil {
			return 0, 0, err
		}
		if i == 0 {
			time.Sleep(a.duration)
		}
	}
	n := float64(counts[1] - counts[0])
	if n == 0 {
		return 0, 0, errors.New("nothing came through")
	}
	return float64(used[1]-used[0]) / n, n / a.duration.Seconds(), nil
}
