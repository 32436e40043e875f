package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// historyFile keeps the figures of each whole run, next to the results of the last one.
const historyFile = "history.csv"

// runsJudged is how many runs of a machine a goal is judged on: the last ones, because Epore
// changes.
const runsJudged = 5

var historyHeader = []string{"date", "commit", "machine", "measure", "contestant", "figure", "rounds"}

// readHistory returns the runs in the file of a folder, in its order. There are none if it
// does not exist.
func readHistory(dir string) (runs []*results, err error) {
	path := filepath.Join(dir, historyFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(rows) == 0 || !slices.Equal(rows[0], historyHeader) {
		return nil, fmt.Errorf("%s: its first line is not %s", path, strings.Join(historyHeader, ","))
	}
	var run *results
	for i, row := range rows[1:] {
		began, err := time.Parse(time.RFC3339, row[0])
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, i+2, err)
		}
		if run == nil || !run.began.Equal(began) || run.commit != row[1] || run.host != row[2] {
			run = newResults()
			run.began, run.commit, run.host = began, row[1], row[2]
			runs = append(runs, run)
		}
		for round, text := range strings.Fields(row[6]) {
			if text == noRound {
				continue
			}
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, fmt.Errorf("%s, line %d: %w", path, i+2, err)
			}
			run.add(row[3], row[4], row[5], round, v)
		}
	}
	return runs, nil
}

// noRound stands for a round that failed.
const noRound = "-"

// appendHistory adds the figures of the tables to the file of a folder.
func (r *results) appendHistory(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, historyFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	w := csv.NewWriter(f)
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size() == 0 {
		_ = w.Write(historyHeader) // Error tells
	}
	shown := make(map[[2]string]bool) // measure and figure
	for i := range cells {
		for _, col := range cells[i].columns() {
			shown[[2]string{cells[i].id, col.name}] = true
		}
	}
	for _, k := range r.order {
		if !shown[[2]string{k.cell, k.name}] {
			continue
		}
		rounds := r.figures[k]
		var values []string
		for round := range slices.Max(slices.Collect(keysOf(rounds))) + 1 {
			text := noRound
			if v, ok := rounds[round]; ok {
				text = strconv.FormatFloat(v, 'g', 5, 64)
			}
			values = append(values, text)
		}
		_ = w.Write([]string{r.began.UTC().Format(time.RFC3339), r.commit, r.host, k.cell, k.contestant, k.name, strings.Join(values, " ")})
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return f.Close()
}

// ofMachine returns the last runs on a machine that count together with another one.
func ofMachine(runs []*results, host string) []*results {
	same := slices.DeleteFunc(slices.Clone(runs), func(r *results) bool { return r.host != host })
	return same[max(len(same)-runsJudged+1, 0):]
}

// judged returns a figure of this run or, if earlier runs have it, too, the median of the
// medians of the runs.
func (r *results) judged(figure func(*results) (spread, bool)) (spread, bool) {
	s, ok := figure(r)
	if !ok {
		return s, false
	}
	medians := []float64{s.median}
	for _, run := range r.previous {
		if p, ok := figure(run); ok {
			medians = append(medians, p.median)
		}
	}
	if len(medians) == 1 {
		return s, true
	}
	return spreadOf(medians)
}

// describeRuns says which runs judged figures come from.
func (r *results) describeRuns() string {
	date := r.began.UTC().Format(time.DateOnly)
	if len(r.previous) == 0 {
		return fmt.Sprintf("One run, on %s (%s): medians over its rounds, with the lowest and the highest.", date, r.host)
	}
	return fmt.Sprintf("Medians of the last %d runs on this machine (%s), from %s to %s, with the lowest and the highest run.",
		len(r.previous)+1, r.host, r.previous[0].began.UTC().Format(time.DateOnly), date)
}

// commit returns the commit that is measured.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
