package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"time"
)

// maxConnections is the limit of -n.
const maxConnections = 1000

// config is what the flags say.
type config struct {
	n       int
	addr    string
	step    time.Duration // -delay
	timeout time.Duration
}

// delayOf returns the delay that request number i, of 1 to n, asks for: the
// first one the longest, the last one a single step.
func (c config) delayOf(i int) time.Duration { return time.Duration(c.n-i+1) * c.step }

// sumOfDelays is how long it would take to send each request after the answer
// to the one before.
func (c config) sumOfDelays() time.Duration {
	return time.Duration(c.n*(c.n+1)/2) * c.step
}

// flagSet returns the flags, which are stored in c.
func flagSet(c *config) *flag.FlagSet {
	fs := flag.NewFlagSet("delayed", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // run prints the error
	fs.IntVar(&c.n, "n", 5, fmt.Sprintf("how many `connections` to open, 1 to %d", maxConnections))
	fs.StringVar(&c.addr, "addr", "", "`host:port` of a server that answers GET /<milliseconds>/<text> with\n"+
		"that text, after that time (default: start one on a free loopback port)")
	fs.DurationVar(&c.step, "delay", 250*time.Millisecond, "the `step` between the delays: the last connection asks for one step,\n"+
		"the one before it for two, and so on; in whole milliseconds")
	fs.DurationVar(&c.timeout, "timeout", 10*time.Second, "give up after this `time`, connecting included")
	return fs
}

// parseFlags returns flag.ErrHelp when help was asked for.
func parseFlags(args []string) (config, error) {
	var c config
	fs := flagSet(&c)
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	if fs.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q: there are only flags", fs.Arg(0))
	}
	return c, c.check()
}

func (c config) check() error {
	if c.n < 1 || c.n > maxConnections {
		return fmt.Errorf("-n %d: it must be 1 to %d", c.n, maxConnections)
	}
	if c.step < 0 || c.step%time.Millisecond != 0 {
		return fmt.Errorf("-delay %v: it must be a whole number of milliseconds, 0 or more", c.step)
	}
	if c.timeout <= 0 {
		return fmt.Errorf("-timeout %v: it must be more than 0", c.timeout)
	}
	if longest := (c.timeout - 1) / time.Duration(c.n); c.step > longest {
		return fmt.Errorf("-delay %v: %d times that, the longest delay, is not less than -timeout %v",
			c.step, c.n, c.timeout)
	}
	if c.addr != "" {
		if _, port, err := net.SplitHostPort(c.addr); err != nil || port == "" {
			return errors.New("-addr " + c.addr + ": it must be host:port, such as 127.0.0.1:8080")
		}
	}
	return nil
}

func printHelp(w io.Writer) {
	fmt.Fprint(w, `Delayed opens connections to a server that answers each request after the delay
it asks for, waits for all of them with one epore.Poll, and prints the answers as
they come.

Usage: delayed [flags]

`)
	fs := flagSet(new(config))
	fs.SetOutput(w)
	fs.PrintDefaults()
	fmt.Fprint(w, `
The exit status is 0 when all answers came, 1 when something failed, and 2 when
the flags make no sense.
`)
}
