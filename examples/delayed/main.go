// Delayed waits for many connections at once with one goroutine and one Poll.
//
// It opens N TCP connections to a server that answers each HTTP request after
// the delay that the request asks for. The first connection asks for the longest
// delay, so the answers arrive in reverse order. Delayed prints each one when it
// arrives, with the time since the requests were sent.
//
//	$ go run github.com/epore/epore/examples/delayed
//	5 connections to 127.0.0.1:40213, waiting on one Poll (epoll)
//	[ 250ms] request-5: "request-5"
//	[ 500ms] request-4: "request-4"
//	[ 750ms] request-3: "request-3"
//	[1000ms] request-2: "request-2"
//	[1250ms] request-1: "request-1"
//	5 answers after 1250ms; one after another they would take 3750ms
//
// The program contains the server (server.go); -addr names another one. The flag
// -h prints all flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/epore/epore"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run runs the program and returns its exit status: 0 for success, 1 if
// something failed, 2 if args are invalid.
func run(args []string, stdout, stderr io.Writer) int {
	cfg, err := parseFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		printHelp(stdout)
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "delayed: %v\nRun it with -h for help.\n", err)
		return 2
	}
	if err := fetchAll(cfg, stdout); err != nil {
		fmt.Fprintln(stderr, "delayed:", err)
		return 1
	}
	return 0
}

// fetchAll is the client. It connects, sends all requests, and prints each
// answer when it arrives.
func fetchAll(cfg config, out io.Writer) error {
	deadline := time.Now().Add(cfg.timeout)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()

	// The Poll is the event queue. It holds descriptors, so close it.
	poll, err := epore.New()
	if err != nil {
		return err
	}
	defer poll.Close()
	registry := poll.Registry()

	addr := cfg.addr
	if addr == "" {
		server, err := startServer()
		if err != nil {
			return err
		}
		defer server.stop()
		addr = server.addr()
	}

	if _, err := fmt.Fprintf(out, "%d connections to %s, waiting on one Poll (%s)\n",
		cfg.n, addr, poll.Backend()); err != nil {
		return err
	}

	// Connect. Each connection is registered with a different Token, which its
	// events carry; pending maps the Token to the request. Edge asks for an event
	// when data arrives, rather than for as long as data is unread. Not every
	// queue supports it; receive works with both.
	interest := epore.Readable
	if poll.Capabilities().Interests.Has(epore.Edge) {
		interest |= epore.Edge
	}
	pending := make(map[epore.Token]*request)
	defer func() {
		for _, r := range pending { // after an error: the unanswered ones
			_ = r.close(registry)
		}
	}()
	for i := 1; i <= cfg.n; i++ {
		r, err := connect(ctx, addr, i, cfg.delayOf(i))
		if err != nil {
			return err
		}
		token := epore.Token(i)
		if err := registry.Register(r.conn, token, interest); err != nil {
			_ = r.conn.Close()
			return err
		}
		pending[token] = r
	}

	// Send all requests. They are short, so each fits into the socket's buffer.
	sent := time.Now()
	for i := 1; i <= cfg.n; i++ {
		if err := pending[epore.Token(i)].send(); err != nil {
			return err
		}
	}

	// Wait. Poll sleeps until at least one connection is readable, and stores the
	// events in a buffer that is reused for each call.
	events := epore.NewEvents(64)
	for len(pending) > 0 {
		left := time.Until(deadline)
		if left <= 0 { // checked here, because a negative timeout means Forever
			return unanswered(pending, cfg.timeout)
		}
		if err := poll.Poll(events, left); err != nil {
			return err
		}
		for event := range events.All() {
			r := pending[event.Token]
			complete, err := r.receive()
			if err != nil {
				return err
			}
			if !complete {
				continue // the rest arrives with a later event
			}
			elapsed := time.Since(sent)
			body, err := r.body()
			if err != nil {
				return err
			}
			delete(pending, event.Token)
			if err := r.close(registry); err != nil {
				return err
			}
			if _, err := fmt.Fprintf(out, "[%4dms] %s: %q\n", elapsed.Milliseconds(), r.name, body); err != nil {
				return err
			}
		}
	}
	_, err = fmt.Fprintf(out, "%d answers after %dms; one after another they would take %dms\n",
		cfg.n, time.Since(sent).Milliseconds(), cfg.sumOfDelays().Milliseconds())
	return err
}

// connect opens the connection for request number i.
func connect(ctx context.Context, addr string, i int, delay time.Duration) (*request, error) {
	name := fmt.Sprintf("request-%d", i)
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot connect: %w", name, err)
	}
	// A net.Conn of network "tcp" is a *net.TCPConn, which is an epore.Source and
	// can be registered directly.
	return &request{name: name, delay: delay, conn: conn.(*net.TCPConn)}, nil
}

// unanswered returns the error of a timeout. It names the requests without an
// answer.
func unanswered(pending map[epore.Token]*request, timeout time.Duration) error {
	var names []string
	for _, token := range slices.Sorted(maps.Keys(pending)) {
		names = append(names, pending[token].name)
	}
	return fmt.Errorf("no complete answer within %v to %s", timeout, strings.Join(names, ", "))
}
