// Echo is a TCP server that sends back all data that it receives, on package loop.
//
//	$ go run github.com/epore/epore/examples/echo -addr 127.0.0.1:7777
//	listening on 127.0.0.1:7777; ^C stops it
//	^C
//	3 connections, 24576 bytes
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/epore/epore/loop"
)

// echo is the handler of all connections. It counts atomically, since several loops use it.
type echo struct{ connections, bytes atomic.Int64 }

func (e *echo) Open(*loop.Conn) { e.connections.Add(1) }

func (e *echo) Data(c *loop.Conn, b []byte) (used int) {
	e.bytes.Add(int64(len(b)))
	_, _ = c.Write(b) // if that fails, the loop closes the connection
	return len(b)
}

func (e *echo) Close(*loop.Conn, error) {}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the server until ctx is done, and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:0", "`address` to listen on: a literal IP address or nothing, and a port (0: a free one)")
	loops := flags.Int("loops", 1, "number of `loops`, each with a goroutine (0: one for each processor)")
	idle := flags.Duration("idle", time.Minute, "close connections that neither sent nor received data for this `time` (0: never)")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil && flags.NArg() > 0:
		fmt.Fprintf(stderr, "echo: unexpected argument %q: run it with -h for help\n", flags.Arg(0))
		fallthrough
	case err != nil:
		return 2
	}
	var e echo
	var printed sync.Once
	err := loop.Run(ctx, *loops, loop.Config{Idle: *idle, Grace: time.Second}, func(l *loop.Loop) error {
		a, err := l.Listen("tcp", *addr, nil, &e)
		if err == nil {
			printed.Do(func() { fmt.Fprintf(stdout, "listening on %s; ^C stops it\n", a) })
		}
		return err
	})
	if err != nil {
		fmt.Fprintln(stderr, "echo:", err)
		return 1
	}
	fmt.Fprintf(stdout, "%d connections, %d bytes\n", e.connections.Load(), e.bytes.Load())
	return 0
}
