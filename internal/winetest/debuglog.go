package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"
)

// wineDebug selects what Wine reports about itself: errors of all its parts, and each
// exception of a program. When a program dies without a message, this says why.
const wineDebug = "-all,err+all,+seh,fixme-seh"

// Wine reports on the standard error of each program. To keep that apart from the
// program's output, programs are started through a link to winetest with the name
// runnerName, which moves Wine's lines into a file. It keeps the file if the program fails.
const (
	runnerName   = "winetest-runner"
	envProgram   = "EPORE_WINETEST_PROGRAM"    // the path of Wine
	envDebugLogs = "EPORE_WINETEST_DEBUG_LOGS" // the folder of the files
)

// isRunner reports whether this process was started through the link.
func isRunner() bool { return filepath.Base(os.Args[0]) == runnerName }

// runProgram runs a program under Wine and returns its exit status.
func runProgram(args []string, stderr io.Writer) (status int) {
	log, err := os.CreateTemp(os.Getenv(envDebugLogs), "*.log")
	if err != nil {
		fmt.Fprintln(stderr, "winetest:", err)
		return statusFailed
	}
	defer log.Close()
	cmd := exec.Command(os.Getenv(envProgram), args...)
	filter := &debugFilter{program: stderr, log: log}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, filter
	cmd.WaitDelay = 10 * time.Second // a process that outlives the program may have its standard error
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, forwarded...)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(stderr, "winetest:", err)
		return statusFailed
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	filter.flush()
	if err == nil {
		_ = os.Remove(log.Name())
		return 0
	}
	fmt.Fprintf(log, "%v: %v\n", args, err)
	if status := cmd.ProcessState.ExitCode(); status >= 0 {
		return status
	}
	return statusFailed // ended by a signal
}

// debugFilter is a writer that passes on the output of a program, without the lines that
// Wine writes: those go to a log.
type debugFilter struct {
	program, log io.Writer
	held         []byte // the beginning of a line that may be Wine's
	midLine      bool   // the program's present line has been passed on in part
}

// debugLine matches Wine's lines, which begin with the ID of a thread.
var (
	debugLine       = regexp.MustCompile(`^[0-9a-f]{4,8}:(err|fixme|warn|trace):`)
	debugLinePrefix = regexp.MustCompile(`^[0-9a-f]{0,8}(:[a-z]{0,5}:?)?$`)
)

// Write implements io.Writer. It passes on the beginning of a line at once, unless it may
// be the beginning of one of Wine's.
func (f *debugFilter) Write(p []byte) (int, error) {
	f.held = append(f.held, p...)
	for {
		i := bytes.IndexByte(f.held, '\n')
		if i < 0 {
			break
		}
		if err := f.pass(f.held[:i+1]); err != nil {
			return 0, err
		}
		f.midLine = false
		f.held = f.held[i+1:]
	}
	if f.midLine || !debugLine.Match(f.held) && !debugLinePrefix.Match(f.held) {
		return len(p), f.flush()
	}
	return len(p), nil
}

// flush passes on what is held.
func (f *debugFilter) flush() error {
	if len(f.held) == 0 {
		return nil
	}
	err := f.pass(f.held)
	f.midLine, f.held = true, nil
	return err
}

// pass writes a line, or a part of one, to where it belongs.
func (f *debugFilter) pass(line []byte) (err error) {
	if !f.midLine && debugLine.Match(line) {
		_, err = f.log.Write(line)
	} else {
		_, err = f.program.Write(line)
	}
	return err
}

// setUpRunner makes the link, and sets its environment variables.
func (p *prefix) setUpRunner() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p.runner = filepath.Join(p.dir, runnerName)
	p.debugLogs = filepath.Join(p.dir, "logs")
	p.env = append(p.env, envProgram+"="+p.wine.program, envDebugLogs+"="+p.debugLogs)
	return errors.Join(os.Mkdir(p.debugLogs, 0o700), os.Symlink(self, p.runner))
}

// printDebugLogs writes the last part of what Wine reported about each program that failed.
func (p *prefix) printDebugLogs(w io.Writer) error {
	const most = 16 << 10
	paths, err := filepath.Glob(filepath.Join(p.debugLogs, "*.log"))
	for _, path := range paths {
		log, readErr := os.ReadFile(path)
		if readErr != nil {
			err = errors.Join(err, readErr)
			continue
		}
		fmt.Fprintln(w, "winetest: a program failed, and Wine reported:")
		if cut := len(log) - most; cut > 0 {
			fmt.Fprintf(w, "(%d bytes omitted)\n", cut)
			log = log[cut:]
		}
		_, _ = w.Write(log)
	}
	return err
}
