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

// config holds the values of the flags.
type config struct {
	n       int
	addr    string
	step    time.Duration // -delay
	timeout time.Duration
}

// delayOf returns the delay of request i, from 1 to n. The first request has the
// longest delay, the last one a single step.
func (c config) delayOf(i int) time.Duration { return time.Duration(c.n-i+1) * c.step }

// sumOfDelays returns how long the requests would take one after another, each
// sent after the answer to the previous one.
func (c config) sumOfDelays() time.Duration {
	return time.Duration(c.n*(c.n+1)/2) * c.step
}

// flagSet returns the set of flags. Parsing it stores their values in c.
func flagSet(c *config) *flag.FlagSet {
	fs := flag.NewFlagSet("delayed", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // run prints the error
	fs.IntVar(&c.n, "n", 5, fmt.Sprintf("number of `connections` to open, 1 to %d", maxConnections))
	fs.StringVar(&c.addr, "addr", "", "`host:port` of a server that answers GET /<milliseconds>/<text> with\n"+
		"the text after that time (default: start one on a free loopback port)")
	fs.DurationVar(&c.step, "delay", 250*time.Millisecond, "`step` between the delays, in whole milliseconds: the last connection\n"+
		"asks for one step, the one before it for two, and so on")
	fs.DurationVar(&c.timeout, "timeout", 10*time.Second, "give up after this `time`, which includes connecting")
	return fs
}

// parseFlags parses the arguments. It returns flag.ErrHelp if they ask for help.
func parseFlags(args []string) (config, error) {
	var c config
	fs := flagSet(&c)
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	if fs.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q: only flags are allowed", fs.Arg(0))
	}
	return c, c.check()
}

func (c config) check() error {
	if c.n < 1 || c.n > maxConnections {
		return fmt.Errorf("-n %d: must be from 1 to %d", c.n, maxConnections)
	}
	if c.step < 0 || c.step%time.Millisecond != 0 {
		return fmt.Errorf("-delay %v: must be a whole number of milliseconds, 0 or more", c.step)
	}
	if c.timeout <= 0 {
		return fmt.Errorf("-timeout %v: must be more than 0", c.timeout)
	}
	if longest := (c.timeout - 1) / time.Duration(c.n); c.step > longest {
		return fmt.Errorf("-delay %v: the longest delay, %d times that, must be less than -timeout %v",
			c.step, c.n, c.timeout)
	}
	if c.addr != "" {
		if _, port, err := net.SplitHostPort(c.addr); err != nil || port == "" {
			return errors.New("-addr " + c.addr + ": must be host:port, such as 127.0.0.1:8080")
		}
	}
	return nil
}

func printHelp(w io.Writer) {
	fmt.Fprint(w, `Delayed opens connections to a server that answers each request after the delay
that it asks for. It waits for all of them with one epore.Poll, and prints each
answer when it arrives.

Usage: delayed [flags]

`)
	fs := flagSet(new(config))
	fs.SetOutput(w)
	fs.PrintDefaults()
	fmt.Fprint(w, `
The exit status is 0 if all answers arrived, 1 if something failed, and 2 if the
flags are invalid.
`)
}
