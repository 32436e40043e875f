package main

import (
	"flag"
	"fmt"
	"io"
	"time"
)

// config is what the flags say.
type config struct {
	addr  string
	loops int
	block bool
	idle  time.Duration
	grace time.Duration
}

const maxLoops = 1024

// flagSet returns the flags, which are stored in c.
func flagSet(c *config) *flag.FlagSet {
	fs := flag.NewFlagSet("echo", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // run prints the error
	fs.StringVar(&c.addr, "addr", "127.0.0.1:0", "listen on this `address`: a literal IP or nothing, and a port (0: a free one)")
	fs.IntVar(&c.loops, "loops", 1, fmt.Sprintf("how many `loops`, each with a goroutine, a Poll and a listener, 1 to %d", maxLoops))
	fs.BoolVar(&c.block, "block", false, "wait in the kernel, on a thread for each loop: on io_uring (-tags iouring) the faster way")
	fs.DurationVar(&c.idle, "idle", time.Minute, "close connections on which nothing was received or sent for this `time` (0: never)")
	fs.DurationVar(&c.grace, "grace", time.Second, "how much `time` clients have, when the server ends, to take what it still has for them")
	return fs
}

// parseFlags returns flag.ErrHelp when help was asked for.
func parseFlags(args []string) (config, error) {
	var c config
	fs := flagSet(&c)
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	switch {
	case fs.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q: there are only flags", fs.Arg(0))
	case c.loops < 1 || c.loops > maxLoops:
		return c, fmt.Errorf("-loops %d: it must be 1 to %d", c.loops, maxLoops)
	case c.idle < 0:
		return c, fmt.Errorf("-idle %v: it must not be less than 0", c.idle)
	case c.grace < 0:
		return c, fmt.Errorf("-grace %v: it must not be less than 0", c.grace)
	}
	return c, nil
}

func printHelp(w io.Writer) {
	fmt.Fprint(w, `Echo is a TCP server that sends back what it receives.

Usage: echo [flags]

`)
	fs := flagSet(new(config))
	fs.SetOutput(w)
	fs.PrintDefaults()
	fmt.Fprint(w, `
SIGINT and SIGTERM end it: with exit status 0 and a summary. The status is 1 when
something failed, and 2 when the flags make no sense.
`)
}
