// Resp is a store of keys and values that speaks the protocol of Redis, on package loop.
//
//	$ go run . -addr 127.0.0.1:6380
//	listening on 127.0.0.1:6380; ^C stops it
//
//	$ redis-cli -p 6380 set greeting hello ex 10
//	OK
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/epore/epore/loop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the server until ctx is done, and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("resp", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:6380", "`address` to listen on: a literal IP address or nothing, and a port (0: a free one)")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil && flags.NArg() > 0:
		fmt.Fprintf(stderr, "resp: unexpected argument %q: run it with -h for help\n", flags.Arg(0))
		fallthrough
	case err != nil:
		return 2
	}
	cfg := loop.Config{MaxIn: maxRequest, MaxOut: 4 * maxRequest, Grace: time.Second}
	err := serve(ctx, cfg, *addr, func(_ *store, a net.Addr) { fmt.Fprintf(stdout, "listening on %s; ^C stops it\n", a) })
	if err != nil {
		fmt.Fprintln(stderr, "resp:", err)
		return 1
	}
	return 0
}

// serve runs one loop, so that the store needs no lock. It calls listening on it.
func serve(ctx context.Context, cfg loop.Config, addr string, listening func(*store, net.Addr)) error {
	return loop.Run(ctx, 1, cfg, func(l *loop.Loop) error {
		s := newStore(l)
		a, err := l.Listen("tcp", addr, nil, s)
		if err == nil {
			listening(s, a)
		}
		return err
	})
}
