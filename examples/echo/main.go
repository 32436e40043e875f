// Echo is a TCP server that sends back what it receives, to any number of clients, with
// one goroutine and one Poll for all of them, or for each of several loops.
//
//	$ go run github.com/epore/epore/examples/echo -addr 127.0.0.1:7777
//	listening on 127.0.0.1:7777, 1 loop (epoll); ^C ends it
//	^C
//	3 connections in 12.417s: 2 ended by the client, 1 idle
//	24576 bytes received, 24576 sent
//
// What is to be seen here: loop.go is a loop over events, level-triggered, that accepts,
// serves and closes; conn.go is what becomes of a connection when its client reads more
// slowly than it writes; idle.go closes those that say nothing. With -loops N there are N
// loops with a listener each, among which the system spreads the connections; not so on
// Windows, which has one loop. With -block a loop waits in the kernel, on a thread of its
// own if its queue belongs to one: server.go.
//
// All flags: -h.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/epore/epore"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole program. It returns the exit status: 0, 1 when something failed, 2
// when args make no sense.
func run(args []string, stdout, stderr io.Writer) int {
	cfg, err := parseFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		printHelp(stdout)
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "echo: %v\nRun it with -h for help.\n", err)
		return 2
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupts)
	if err := serve(cfg, stdout, interrupts); err != nil {
		fmt.Fprintln(stderr, "echo:", err)
		return 1
	}
	return 0
}

// serve runs the server until it is interrupted, and prints what it did.
func serve(cfg config, out io.Writer, interrupts <-chan os.Signal) error {
	strategy := epore.Park
	if cfg.block {
		strategy = epore.Block
	}
	s, err := start(cfg, func() (*epore.Poll, error) { return epore.New(epore.WithStrategy(strategy)) })
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "listening on %s, %s (%s); ^C ends it\n", s.addr(), count(cfg.loops, "loop"), s.loops[0].poll.Backend()); err != nil {
		s.stop()
		return errors.Join(err, s.wait())
	}
	select {
	case <-interrupts:
		s.stop()
	case <-s.failed:
	}
	err = s.wait()
	_, printErr := fmt.Fprint(out, s.summary())
	return errors.Join(err, printErr)
}
