// Package measure is shared by the contestants in Go: their arguments, sockets, timed loops
// and output. A contestant adds the code for its library: see [Main].
//
// It runs on Linux. The contestants in C and Rust follow the same protocol, which
// bench/README.md describes.
package measure

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Args are the arguments of a measure, with the defaults of the protocol.
type Args struct {
	Mode       string // edge or level
	Kind       string // of a wake: coalesced or waiting
	Gear       string // the Strategy of Epore: park or block
	Rotate     string // yes: other sockets are active in each round; no: always the same
	Active     int    // sockets that get a byte in a round
	Registered int    // sockets, or pairs of them
	Rounds     int
	N          int // timers
	Micros     int // a timeout, in microseconds
	Pairs      int // of a ping-pong
	Trips      int // of a ping-pong, over all pairs
	Queues     int // each with a goroutine
	Loops      int // at the same time, each with its goroutine, queue and sockets
}

// defaults are the arguments of each measure and their defaults.
var defaults = map[string]Args{
	"event":    {Mode: "edge", Rotate: "yes", Gear: "park", Active: 64, Registered: 2000, Rounds: 2200, Loops: 1},
	"ready":    {Gear: "park", Active: 64, Registered: 64, Rounds: 20000},
	"register": {Gear: "park", Registered: 1000, Rounds: 110},
	"memory":   {Gear: "park", Registered: 8000},
	"wake":     {Gear: "park", Kind: "coalesced", Rounds: 1000000},
	"timers":   {Gear: "park", N: 100000, Rounds: 5},
	"threads":  {Gear: "park", Queues: 1000},
	"pingpong": {Gear: "park", Pairs: 1, Trips: 20000},
	"late":     {Gear: "park", Micros: 100, Rounds: 110},
	"allocs":   {Gear: "park", Registered: 100, Rounds: 1000},
}

// set sets the argument KEY=VALUE. It accepts the keys that have a default for the measure.
func (a *Args) set(arg string) error {
	key, value, _ := strings.Cut(arg, "=")
	texts := map[string]*string{"mode": &a.Mode, "kind": &a.Kind, "gear": &a.Gear, "rotate": &a.Rotate}
	allowed := map[string][]string{"mode": {"edge", "level"}, "kind": {"coalesced", "waiting"}, "gear": {"park", "block"}, "rotate": {"yes", "no"}}
	numbers := map[string]*int{"active": &a.Active, "registered": &a.Registered, "rounds": &a.Rounds, "n": &a.N,
		"pairs": &a.Pairs, "trips": &a.Trips, "queues": &a.Queues, "micros": &a.Micros, "loops": &a.Loops}
	if p := texts[key]; p != nil && *p != "" {
		if !slices.Contains(allowed[key], value) {
			return fmt.Errorf("%s: one of %s", arg, strings.Join(allowed[key], ", "))
		}
		*p = value
		return nil
	}
	p := numbers[key]
	if p == nil || *p == 0 {
		return fmt.Errorf("%s: this measure has no such argument", arg)
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return fmt.Errorf("%s: a number from 1 on", arg)
	}
	*p = n
	return nil
}

// Result is one figure. Its name implies the unit.
type Result struct {
	Name  string
	Value float64
}

// Measures are the measures that a contestant supports, by name.
type Measures map[string]func(*Args) ([]Result, error)

// ErrMissing reports that a contestant does not support a measure, or not in this mode. The
// error that wraps it gives the reason.
var ErrMissing = errors.New("missing")

// Main is the main function of a contestant: PROGRAM MEASURE [KEY=VALUE...]. It prints
// a line for each figure, and exits with 1 if something failed, 2 for wrong arguments, 3
// for what the contestant does not support.
func Main(has Measures) {
	results, status, err := run(has, os.Args[1:])
	for _, r := range results {
		fmt.Println(r.Name, strconv.FormatFloat(r.Value, 'f', -1, 64))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(status)
}

func run(has Measures, args []string) (results []Result, status int, err error) {
	if len(args) == 0 {
		return nil, 2, errors.New("usage: PROGRAM MEASURE [KEY=VALUE...]")
	}
	a, known := defaults[args[0]]
	if !known {
		return nil, 2, fmt.Errorf("%s: no such measure", args[0])
	}
	for _, arg := range args[1:] {
		if err := a.set(arg); err != nil {
			return nil, 2, err
		}
	}
	f := has[args[0]]
	if f == nil {
		return nil, 3, ErrMissing
	}
	if err := raiseLimit(); err != nil {
		return nil, 1, err
	}
	results, err = f(&a)
	switch {
	case errors.Is(err, ErrMissing):
		return nil, 3, err
	case err != nil:
		return nil, 1, err
	}
	return results, 0, nil
}

func raiseLimit() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}
