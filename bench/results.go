package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/epore/epore/bench/internal/measure"
)

// results are all figures of a run.
type results struct {
	machine []string
	host    string // what figures of several runs must have in common to be compared
	commit  string
	began   time.Time
	took    time.Duration
	// previous are the last runs on this machine, oldest first.
	previous []*results
	missing  map[string]string  // contestants that could not be built, and why
	lacks    map[[2]string]bool // cells that a contestant does not have
	failed   []string
	figures  map[key]byRound
	order    []key
}

// byRound has a value for each round: figures of the same round are compared.
type byRound map[int]float64

func newResults() *results {
	return &results{missing: map[string]string{}, lacks: map[[2]string]bool{}, figures: map[key]byRound{}}
}

func (r *results) add(cell, contestant, name string, round int, value float64) {
	k := key{cell, contestant, name}
	if r.figures[k] == nil {
		r.figures[k] = byRound{}
		r.order = append(r.order, k)
	}
	r.figures[k][round] = value
}

// spread is a median with the lowest and the highest value.
type spread struct{ median, min, max float64 }

func spreadOf(v []float64) (spread, bool) {
	if len(v) == 0 {
		return spread{}, false
	}
	return spread{median: measure.Median(v), min: slices.Min(v), max: slices.Max(v)}, true
}

// get returns a figure over all rounds.
func (r *results) get(cell, contestant, name string) (spread, bool) {
	var v []float64
	for _, value := range r.figures[key{cell, contestant, name}] {
		v = append(v, value)
	}
	return spreadOf(v)
}

// ratio returns one contestant's figure divided by another's of the same round, over
// the rounds that both have.
func (r *results) ratio(cell, contestant, other, name, otherName string) (spread, bool) {
	var v []float64
	of := r.figures[key{cell, other, otherName}]
	for round, value := range r.figures[key{cell, contestant, name}] {
		if o, ok := of[round]; ok && o > 0 {
			v = append(v, value/o)
		}
	}
	return spreadOf(v)
}

// number formats a figure with its significant digits.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e6, a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func (s spread) String() string {
	if s.min == s.max {
		return number(s.median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.median), number(s.min), number(s.max))
}

// write writes everything into a folder.
func (r *results) write(dir, doc string) error {
	if err := r.writeCSV(filepath.Join(dir, "results.csv")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.md"), []byte(r.markdown()), 0o666); err != nil {
		return err
	}
	if err := r.plot(dir); err != nil {
		return err
	}
	if doc == "" {
		return nil
	}
	return insert(doc, r.blocks())
}

// rescue writes the figures of an incomplete run to another folder.
func (r *results) rescue(out io.Writer) error {
	if len(r.figures) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "bench-results-")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "what was measured until then is in", dir)
	return r.write(dir, "")
}

// writeCSV writes each single figure, in the order in which they were first measured.
func (r *results) writeCSV(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := csv.NewWriter(f)
	_ = w.Write([]string{"measure", "contestant", "figure", "round", "value"}) // Error tells
	for _, k := range r.order {
		rounds := r.figures[k]
		for round := range slices.Max(slices.Collect(keysOf(rounds))) + 1 {
			if v, ok := rounds[round]; ok {
				_ = w.Write([]string{k.cell, k.contestant, k.name, fmt.Sprint(round + 1), strconv.FormatFloat(v, 'g', 7, 64)})
			}
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return f.Close()
}

func keysOf(m byRound) func(func(int) bool) {
	return func(yield func(int) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}
