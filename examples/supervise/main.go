// Supervise runs a command, and runs it again when files change.
//
//	$ go run github.com/epore/epore/examples/supervise -watch . -- go test ./...
//
// The child, its output, the files, the signals and the time are sources of one Poll. On
// Linux, inotify(7) reports changes; on other systems the program looks by a Timer.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// paths is a flag that may be given several times.
type paths []string

func (p *paths) String() string     { return fmt.Sprint(*p) }
func (p *paths) Set(s string) error { *p = append(*p, s); return nil }

type settings struct {
	watch    paths
	quiet    time.Duration
	poll     time.Duration
	backoff  time.Duration
	kill     time.Duration
	terminal bool
	command  []string
}

// run runs the program, and returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	var s settings
	flags := flag.NewFlagSet("supervise", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: supervise [flags] -- command [arguments]")
		flags.PrintDefaults()
	}
	flags.Var(&s.watch, "watch", "`file` or folder to watch; may be given several times (default: nothing)")
	flags.DurationVar(&s.quiet, "quiet", 100*time.Millisecond, "run the command again when nothing has changed for this `time`")
	flags.DurationVar(&s.poll, "look", time.Second, "`time` between two looks for what the system does not report")
	flags.DurationVar(&s.backoff, "backoff", 250*time.Millisecond, "`time` before a command that failed runs again; doubled each time, up to 30s (0: wait for a change)")
	flags.DurationVar(&s.kill, "kill", 5*time.Second, "`time` that the command has to end after SIGTERM, before SIGKILL")
	flags.BoolVar(&s.terminal, "terminal", false, "give the command a terminal for its output (Linux)")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil && flags.NArg() == 0:
		fmt.Fprintln(stderr, "supervise: no command: name one after --")
		fallthrough
	case err != nil:
		return 2
	case s.poll <= 0 || s.quiet < 0 || s.backoff < 0 || s.kill < 0:
		fmt.Fprintln(stderr, "supervise: -look must be positive, and the other times 0 or more")
		return 2
	}
	s.command = flags.Args()
	status, err := supervise(s, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "supervise:", err)
		return 1
	}
	return status
}
