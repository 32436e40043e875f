// Bench compares Epore with other event queues and servers. It writes tables, every single
// figure, and plots.
//
//	make bench                  in the parent folder: everything, in less than 35 minutes
//	go -C bench run . -quick    checks that everything runs, in less than two minutes
//
// Each contestant is a separate program. They take turns: in each round every contestant
// runs once, next to those that it is compared with. The result is the median over the
// rounds. The file history.csv keeps the figures of each run, and the goals are judged on the
// last runs of the machine. README.md describes how the contestants run, and docs/benchmarks.md explains the
// figures. Bench runs on Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// config holds the values of the flags.
type config struct {
	quick  bool
	rounds int
	only   *regexp.Regexp
	out    string // the folder for the results
	doc    string // the document whose blocks are kept up to date
}

func parse(args []string) (*config, error) {
	c := &config{}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.BoolVar(&c.quick, "quick", false, "run one short round to check that everything runs; the figures mean nothing")
	fs.IntVar(&c.rounds, "rounds", 5, "number of `rounds`")
	only := fs.String("only", "", "run only what this regular `expression` matches: a measure, a contestant, or both as measure/contestant")
	fs.StringVar(&c.out, "out", "", "`folder` for results.md, results.csv and the plots (default: docs/benchmarks for a whole run, otherwise a temporary folder)")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: only flags are allowed", fs.Arg(0))
	}
	var err error
	if c.only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	if c.quick {
		c.rounds = 1
	}
	if c.rounds < 1 || c.rounds > 1000 {
		return nil, fmt.Errorf("-rounds %d: it must be 1 to 1000", c.rounds)
	}
	switch {
	case c.out != "":
	case c.quick || *only != "":
		c.out, err = os.MkdirTemp("", "bench-results-")
	default:
		c.out, c.doc = filepath.Join("..", "docs", "benchmarks"), filepath.Join("..", "docs", "benchmarks.md")
	}
	return c, err
}

func run(ctx context.Context, args []string, out io.Writer) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	if _, err := os.Stat("contestants"); err != nil {
		return fmt.Errorf("%w: this program builds the contestants from its source; run it in the folder bench", err)
	}
	begin := time.Now()
	bin, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)

	// Fail before measuring, not after it, if the results cannot be written.
	if err := writable(c.out, c.doc); err != nil {
		return err
	}
	runs, err := readHistory(c.out)
	if err != nil {
		return err
	}
	results := newResults()
	results.machine = describeMachine(ctx)
	results.host, results.commit = hostName(), commit(ctx)
	results.previous = ofMachine(runs, results.host)
	results.began = begin
	if err := build(ctx, bin, results, out); err != nil {
		return err
	}
	err = measureAll(ctx, c, bin, results, out)
	results.took = time.Since(begin)
	if err == nil {
		err = results.write(c.out, c.doc)
	}
	if err == nil && !c.quick {
		err = results.appendHistory(c.out)
	}
	if err != nil {
		return errors.Join(err, results.rescue(out))
	}
	fmt.Fprintf(out, "%d figures in %s: see %s\n", len(results.figures), results.took.Round(time.Second), filepath.Join(c.out, "results.md"))
	if n := len(results.failed); n > 0 {
		return fmt.Errorf("%d runs failed, the first: %s", n, results.failed[0])
	}
	return nil
}

// writable reports whether results can be written. It keeps the existing results, which are
// valid until the next whole run has ended.
func writable(dir, doc string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "")
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil || doc == "" {
		return err
	}
	_, err = replaceBlocks(doc, newResults().blocks())
	return err
}
