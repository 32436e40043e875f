// Proxy forwards TCP connections to one of several backends, on package loop.
//
//	$ go run github.com/epore/epore/examples/proxy -addr 127.0.0.1:8080 127.0.0.1:8001 127.0.0.1:8002
//	listening on 127.0.0.1:8080; ^C stops it
//
// Backends take turns. One that cannot be reached is left out, and tried again later. On
// Linux the data does not pass through the program (splice(2)). On SIGUSR1, and at its
// end, the program prints what it has done.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/loop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the proxy until ctx is done, and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var s settings
	flags := flag.NewFlagSet("proxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: proxy [flags] backend-address...")
		flags.PrintDefaults()
	}
	addr := flags.String("addr", "127.0.0.1:0", "`address` to listen on: a literal IP address or nothing, and a port (0: a free one)")
	loops := flags.Int("loops", 1, "number of `loops`, each with a goroutine (0: one for each processor)")
	flags.DurationVar(&s.connect, "connect", 3*time.Second, "how long connecting to a backend may take")
	flags.DurationVar(&s.retry, "retry", 2*time.Second, "how long a backend that failed is left out")
	flags.DurationVar(&s.idle, "idle", 10*time.Minute, "how long a connection may pass no data in either direction")
	flags.DurationVar(&s.grace, "grace", 10*time.Second, "how long open connections may take to end when the program is told to")
	flags.IntVar(&s.max, "max", 10_000, "number of `connections` of a loop; further ones are reset")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil && flags.NArg() == 0:
		fmt.Fprintln(stderr, "proxy: no backend: name at least one address, such as 127.0.0.1:8001")
		fallthrough
	case err != nil:
		return 2
	case *loops < 0 || s.connect <= 0 || s.retry < 0 || s.idle <= 0 || s.grace < 0 || s.max <= 0:
		fmt.Fprintln(stderr, "proxy: -loops, -retry and -grace must not be negative, and -connect, -idle and -max must be positive")
		return 2
	}
	for _, backend := range flags.Args() {
		if _, err := netip.ParseAddrPort(backend); err != nil {
			fmt.Fprintf(stderr, "proxy: backend %q: give an IP address and a port, such as 127.0.0.1:8001\n", backend)
			return 2
		}
	}
	if *loops == 0 {
		*loops = runtime.GOMAXPROCS(0)
	}
	s.backends = flags.Args()
	s.log = stderr

	var total statistics
	err := serve(ctx, loop.Config{}, *loops, *addr, s, &total, func(l *loop.Loop, a net.Addr) error {
		if len(statisticsSignals) > 0 { // before the line that says that it is ready
			if err := printOnSignal(l, &total, stdout); err != nil {
				return err
			}
		}
		fmt.Fprintf(stdout, "listening on %s; ^C stops it\n", a)
		return nil
	})
	fmt.Fprintln(stdout, &total)
	if err != nil {
		fmt.Fprintln(stderr, "proxy:", err)
		return 1
	}
	return 0
}

// serve runs the loops. When ctx is done, they take no more clients, and end when no
// connection is left or the grace is over. It calls listening once, on the first loop.
func serve(ctx context.Context, cfg loop.Config, loops int, addr string, s settings, total *statistics,
	listening func(*loop.Loop, net.Addr) error,
) error {
	ending, end := context.WithCancel(context.Background())
	defer end()
	var first sync.Once
	var left sync.WaitGroup // loops that have connections, or may get some
	left.Add(loops)
	return loop.Run(ending, loops, cfg, func(l *loop.Loop) error {
		p := newProxy(l, s, total, left.Done)
		context.AfterFunc(ctx, func() { _ = l.Post(p.drain) })
		a, err := l.Listen("tcp", addr, nil, client{p})
		if err != nil {
			return err
		}
		first.Do(func() {
			go func() { <-ctx.Done(); left.Wait(); end() }()
			err = listening(l, a)
		})
		return err
	})
}

func printOnSignal(l *loop.Loop, total *statistics, stdout io.Writer) error {
	var sig *epore.Signal
	var err error
	sig, err = epore.NewSignal(l.Poll().Registry(), l.Handle(func(epore.Event) {
		for range sig.Received() {
			fmt.Fprintln(stdout, total)
		}
	}), statisticsSignals...)
	return err
}
