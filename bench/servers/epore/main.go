// Epore is a TCP echo server with an event loop written by hand, on packages epore and
// socket alone: the baseline of all figures about servers. One goroutine and one Poll serve
// all clients, or several loops with a goroutine and a Poll each.
//
//	$ go -C bench run ./servers/epore -addr 127.0.0.1:7777
//	listening on 127.0.0.1:7777, 1 loop (epoll); ^C stops it
//	^C
//	3 connections in 12.417s: 2 ended by the client, 1 idle
//	24576 bytes received, 24576 sent
//
// Where to look:
//
//   - loop.go is a level-triggered event loop that accepts, serves and closes connections;
//   - conn.go applies back-pressure to a client that reads more slowly than it writes;
//   - idle.go keeps the order in which idle connections expire;
//   - server.go runs the loops. With -loops N, each of N loops has a listener, and the
//     system distributes the connections among them. Windows supports one loop only. With
//     -block a loop waits in the kernel, and is locked to its thread if the queue
//     requires that.
//
// The flag -h prints all flags.
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

// run runs the program and returns its exit status: 0 for success, 1 if something failed, 2
// if args are invalid.
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

// serve runs the server until it is interrupted, and prints a summary.
func serve(cfg config, out io.Writer, interrupts <-chan os.Signal) error {
	strategy := epore.Park
	if cfg.block {
		strategy = epore.Block
	}
	s, err := start(cfg, func() (*epore.Poll, error) { return epore.New(epore.WithStrategy(strategy)) })
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "listening on %s, %s (%s); ^C stops it\n", s.addr(), count(cfg.loops, "loop"), s.loops[0].poll.Backend()); err != nil {
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
