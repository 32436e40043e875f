package main

import (
	"flag"
	"fmt"
	"io"
	"time"
)

// config holds the values of the flags.
type config struct {
	addr  string
	loops int
	block bool
	idle  time.Duration
	grace time.Duration
}

const maxLoops = 1024

// flagSet returns the set of flags. Parsing it stores their values in c.
func flagSet(c *config) *flag.FlagSet {
	fs := flag.NewFlagSet("echo", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // run prints the error
	fs.StringVar(&c.addr, "addr", "127.0.0.1:0", "`address` to listen on: a literal IP address or nothing, and a port (0: a free one)")
	fs.IntVar(&c.loops, "loops", 1, fmt.Sprintf("number of `loops`, each with a goroutine, a Poll and a listener, 1 to %d", maxLoops))
	fs.BoolVar(&c.block, "block", false, "wait in the kernel, with one thread for each loop; io_uring (-tags iouring) always does")
	fs.DurationVar(&c.idle, "idle", time.Minute, "close connections that neither sent nor received data for this `time` (0: never)")
	fs.DurationVar(&c.grace, "grace", time.Second, "`time` that clients have to read the remaining data when the server stops")
	return fs
}

// parseFlags parses the arguments. It returns flag.ErrHelp if they ask for help.
func parseFlags(args []string) (config, error) {
	var c config
	fs := flagSet(&c)
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	switch {
	case fs.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q: only flags are allowed", fs.Arg(0))
	case c.loops < 1 || c.loops > maxLoops:
		return c, fmt.Errorf("-loops %d: must be from 1 to %d", c.loops, maxLoops)
	case c.idle < 0:
		return c, fmt.Errorf("-idle %v: must be 0 or more", c.idle)
	case c.grace < 0:
		return c, fmt.Errorf("-grace %v: must be 0 or more", c.grace)
	}
	return c, nil
}

func printHelp(w io.Writer) {
	fmt.Fprint(w, `Echo is a TCP server that sends back all data that it receives.

Usage: echo [flags]

`)
	fs := flagSet(new(config))
	fs.SetOutput(w)
	fs.PrintDefaults()
	fmt.Fprint(w, `
On SIGINT or SIGTERM it stops, prints a summary, and exits with status 0. The exit
status is 1 if something failed, and 2 if the flags are invalid.
`)
}
