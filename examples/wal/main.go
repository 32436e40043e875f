// Wal is a log server on packages loop and fileop: clients append records over TCP, and get
// their answer when the record is on disk.
//
//	$ go run github.com/epore/epore/examples/wal -addr 127.0.0.1:7000 records.log
//	0 records; io_uring; listening on 127.0.0.1:7000; ^C stops it
//
//	$ go run github.com/epore/epore/examples/wal -load 127.0.0.1:7000 -clients 64 -for 5s
//
// All records that arrive while a batch is written and synced form the next batch.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/epore/epore/fileop"
	"github.com/epore/epore/loop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the server until ctx is done, or the clients until their time is over, and returns
// the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("wal", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: wal [-addr address] [-pool] file\n       wal -load address [-clients n] [-size n] [-for time]")
		flags.PrintDefaults()
	}
	addr := flags.String("addr", "127.0.0.1:0", "`address` to listen on: a literal IP address or nothing, and a port (0: a free one)")
	pool := flags.Bool("pool", false, "use a pool of goroutines even where io_uring is available")
	target := flags.String("load", "", "do not serve: append records to the server at this `address`")
	clients := flags.Int("clients", 64, "`number` of clients of -load")
	size := flags.Int("size", 128, "`bytes` of each record of -load")
	length := flags.Duration("for", 5*time.Second, "how long -load takes")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil && (*target == "") != (flags.NArg() == 1):
		fmt.Fprintln(stderr, "wal: give one file to serve, or -load and no file")
		fallthrough
	case err != nil:
		return 2
	case *target != "" && (*clients < 1 || *size < 0 || *size > maxRecord || *length <= 0):
		fmt.Fprintf(stderr, "wal: -clients and -for must be positive, and -size at most %d\n", maxRecord)
		return 2
	}
	var err error
	if *target != "" {
		err = load(*target, *clients, *size, *length, stdout)
	} else {
		err = serve(ctx, flags.Arg(0), *addr, *pool, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "wal:", err)
		return 1
	}
	return 0
}

// serve serves until ctx is done or the log fails.
func serve(ctx context.Context, path, addr string, pool bool, stdout io.Writer) (err error) {
	log, before, end, cut, err := openLog(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	var opts []fileop.Option
	if pool {
		opts = append(opts, fileop.WithPool())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var failure atomic.Pointer[error]
	var s *server
	err = loop.Run(ctx, 1, loop.Config{Grace: time.Second}, func(l *loop.Loop) error {
		var q *fileop.Queue
		var err error
		s, q, err = newServer(l, log, before, end, func(err error) {
			failure.Store(&err)
			cancel(err)
		}, opts...)
		if err != nil {
			return err
		}
		a, err := l.Listen("tcp", addr, nil, s)
		if err == nil {
			engine, _ := q.Engine()
			found := fmt.Sprint(before, " records")
			if cut > 0 {
				found += fmt.Sprintf(" (%d bytes behind them were no whole record, and are cut off)", cut)
			}
			fmt.Fprintf(stdout, "%s; %s; listening on %s; ^C stops it\n", found, engine, a)
		}
		return err
	})
	if failed := failure.Load(); failed != nil {
		return errors.Join(*failed, err)
	}
	if err == nil && s != nil {
		fmt.Fprintf(stdout, "%d records in %d commits\n", s.records-before, s.commits)
	}
	return err
}
