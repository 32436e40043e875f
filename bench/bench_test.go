package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// filled returns results with a figure for everything that the plan measures. Epore's
// figures are half of the others.
func filled() *results {
	r := newResults()
	for i := range cells {
		c := &cells[i]
		for _, col := range c.columns() {
			for _, k := range contestants {
				for round := range 3 {
					v := 100 + float64(10*round)
					if isOurs(k.id) {
						v /= 2
					}
					if c.takesPart(&k) {
						r.add(c.id, k.id, col.name, round, v)
					}
				}
			}
		}
	}
	return r
}

// A goal whose figure is never measured would report that forever.
func TestGoalsAreMeasured(t *testing.T) {
	r := filled()
	for _, g := range goals {
		if _, ok := g.figure(r); !ok {
			t.Errorf("%s, %s: no such figures are measured", g.id, g.what)
		}
		if _, ok := g.figure(newResults()); ok {
			t.Errorf("%s, %s: reached without any figures", g.id, g.what)
		}
	}
}

func TestGoalsAreJudged(t *testing.T) {
	r := filled()
	line := func(what string) string {
		for line := range strings.Lines(r.goalsTable()) {
			if strings.Contains(line, "| "+what+" |") {
				return strings.TrimSpace(line)
			}
		}
		t.Fatalf("the table does not have %q", what)
		return ""
	}
	const what = "an event, epoll, edge, parks: ratio to C"
	if got := line(what); got != "| G1 | "+what+" | 1.25 | 0.50 | met |" {
		t.Error(got)
	}
	for round := range 2 { // two of three: the median
		r.add("event-edge", "epore-epoll", "ns", round, 200)
	}
	if got := line(what); got != "| G1 | "+what+" | 1.25 | 1.82 (0.50–2) | **missed** |" {
		t.Error(got)
	}
	delete(r.figures, key{"event-edge", "c-epoll", "ns"})
	if got := line(what); got != "| G1 | "+what+" | 1.25 | not measured |  |" {
		t.Error(got)
	}
}

// Ratios compare only figures of the same round.
func TestRatio(t *testing.T) {
	r := newResults()
	for round, v := range []float64{10, 20, 40} {
		r.add("c", "a", "ns", round, v)
		if round != 1 {
			r.add("c", "b", "ns", round, 10)
		}
	}
	if s, ok := r.ratio("c", "a", "b", "ns", "ns"); !ok || s != (spread{2.5, 1, 4}) {
		t.Error(s, ok)
	}
	if s, ok := r.get("c", "a", "ns"); !ok || s != (spread{20, 10, 40}) {
		t.Error(s, ok)
	}
	if _, ok := r.ratio("c", "a", "nobody", "ns", "ns"); ok {
		t.Error("a ratio to nobody")
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 16: "16", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234567: "1234567", -0.5: "-0.50"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestNamesOfThePlan(t *testing.T) {
	var ids []string
	for _, k := range contestants {
		if slices.Contains(ids, k.id) {
			t.Errorf("two contestants %s", k.id)
		}
		ids = append(ids, k.id)
	}
	var names []string
	for _, c := range cells {
		if slices.Contains(names, c.id) {
			t.Errorf("two measures %s", c.id)
		}
		names = append(names, c.id)
		for _, id := range c.only {
			if !slices.Contains(ids, id) {
				t.Errorf("%s: there is no contestant %s", c.id, id)
			}
		}
	}
	for _, c := range allCurves {
		for _, cell := range c.cells {
			if !slices.Contains(names, cell) || len(c.cells) != len(c.at) {
				t.Errorf("%s: no measure %s, or not as many places", c.file, cell)
			}
		}
	}
	for _, b := range allBars {
		if !slices.Contains(names, b.cell) {
			t.Errorf("%s: no measure %s", b.file, b.cell)
		}
	}
}

// The report is complete even with gaps, and names what is missing.
func TestWrite(t *testing.T) {
	r := filled()
	r.missing["mio"] = "no cargo here"
	delete(r.figures, key{"event-edge", "mio", "ns"})
	r.order = slices.DeleteFunc(r.order, func(k key) bool { return r.figures[k] == nil })
	r.lacks[[2]string{"event-edge", "libuv"}] = true
	r.failed = []string{"event-edge/gnet: it broke"}
	dir := t.TempDir()
	doc := filepath.Join(dir, "doc.md")
	var around, want strings.Builder
	for _, b := range r.blocks() {
		around.WriteString("before " + b.name + "\n" + b.begin() + "old\n" + endMark + "\n")
		want.WriteString("before " + b.name + "\n" + b.begin() + "\n" + b.text + "\n" + endMark + "\n")
	}
	if err := os.WriteFile(doc, []byte(around.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second replaces what the first wrote
		if err := r.write(dir, doc); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	report := read("results.md")
	for _, want := range []string{"no cargo here", "it broke", "Without this: libuv (C).", "| **Epore**, epoll, parks | 55 (50–60) | 0.50 |"} {
		if !strings.Contains(report, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if got := read("doc.md"); got != want.String() {
		t.Error(got)
	}
	for _, m := range regexp.MustCompile(`\(benchmarks/(.*?)\)`).FindAllStringSubmatch(read("doc.md"), -1) {
		read(m[1]) // the document shows it
	}
	if got := strings.Count(read("results.csv"), "\n"); got != 1+3*len(r.order) {
		t.Errorf("%d lines of figures, %d figures in 3 rounds", got, len(r.order))
	}
	var files []string
	for _, c := range allCurves {
		files = append(files, c.file)
	}
	for _, b := range allBars {
		files = append(files, b.file)
	}
	for _, file := range files {
		picture, err := png.Decode(strings.NewReader(read(file + ".png")))
		if err != nil {
			t.Fatal(file, err)
		}
		if !has(picture, ours) || !slices.ContainsFunc(others, func(c color.Color) bool { return has(picture, c) }) {
			t.Errorf("%s: nothing is drawn of Epore, or of the others", file)
		}
	}

	if err := os.WriteFile(doc, []byte("no marks"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.write(dir, doc); err == nil || read("doc.md") != "no marks" {
		t.Errorf("no marks: %v", err)
	}
}

// has reports whether a picture contains a colour.
func has(p image.Image, c color.Color) bool {
	r, g, b, a := c.RGBA()
	for y := range p.Bounds().Dy() {
		for x := range p.Bounds().Dx() {
			if r2, g2, b2, a2 := p.At(x, y).RGBA(); r == r2 && g == g2 && b == b2 && a == a2 {
				return true
			}
		}
	}
	return false
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-rounds", "1001"}, {"-only", "("}, {"-no"}, {"x"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	dir := filepath.Join(t.TempDir(), "a", "b")
	c, err := parse([]string{"-quick", "-rounds", "7", "-only", "^echo", "-out", dir})
	if err != nil {
		t.Fatal(err)
	}
	if c.rounds != 1 || !c.only.MatchString("echo-1-64/server-net") || c.out != dir || c.doc != "" {
		t.Errorf("%+v", c)
	}
	if c, err = parse(nil); err != nil || c.rounds != 5 || c.doc == "" || !c.only.MatchString("x") {
		t.Errorf("%+v, %v", c, err)
	}
}

// If the results cannot be written, the run fails before it measures anything.
func TestNowhereToWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), []string{"-out", filepath.Join(file, "folder")}, &out); err == nil || out.Len() > 0 {
		t.Error(err, out.String())
	}
	dir := filepath.Join(t.TempDir(), "new", "folder")
	if err := run(t.Context(), []string{"-quick", "-only", "^nothing$", "-out", dir}, &out); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "results.md")); err != nil {
		t.Error(err)
	}
}

// An incomplete run keeps the results of the previous one.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "results.md")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, []string{"-quick", "-out", dir}, io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if text, err := os.ReadFile(old); err != nil || string(text) != "old" {
		t.Errorf("%q, %v", text, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Error(entries, err)
	}

	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	if err := filled().rescue(&out); err != nil {
		t.Fatal(err)
	}
	_, saved, _ := strings.Cut(strings.TrimSpace(out.String()), " is in ")
	if text, err := os.ReadFile(filepath.Join(saved, "results.csv")); err != nil || !strings.Contains(string(text), "event-edge,c-epoll,ns,1,") {
		t.Errorf("%q, %v", text[:min(len(text), 100)], err)
	}
}

// Output of a contestant that is not a figure is an error.
func TestFigures(t *testing.T) {
	if list, err := figuresOf("ns 1.5\nbase 20\n"); err != nil || !slices.Equal(list, []figure{{"ns", 1.5}, {"base", 20}}) {
		t.Error(list, err)
	}
	for _, text := range []string{"", "ns\n", "ns 1 2\n", "panic: ns\n"} {
		if _, err := figuresOf(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// The tables name the versions of the modules that are built.
func TestMachine(t *testing.T) {
	text := strings.Join(describeMachine(t.Context()), "\n")
	for _, want := range append([]string{`Go: go1\.`, "system: Linux [0-9]", "processors: [0-9]"}, peers...) {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
}

// The history keeps what the tables show, round by round, of each run.
func TestHistory_KeepsEachRun(t *testing.T) {
	dir := t.TempDir()
	if runs, err := readHistory(dir); err != nil || len(runs) != 0 {
		t.Error(runs, err)
	}
	var want []*results
	for i, began := range []string{"2026-01-01T10:00:00Z", "2026-01-02T10:00:00Z", "2026-01-02T10:00:00Z"} {
		r := newResults()
		r.began, _ = time.Parse(time.RFC3339, began)
		r.host, r.commit = fmt.Sprint("host ", i), "abc"
		r.add("event-edge", "c-epoll", "ns", 0, 100.5)
		r.add("event-edge", "c-epoll", "ns", 2, 102) // round 1 failed
		r.add("timers", "libuv", "fire", 0, 1e9)
		want = append(want, r)
		r.add("event-edge", "c-epoll", "base", 0, 700) // no table shows it
		if err := r.appendHistory(dir); err != nil {
			t.Fatal(err)
		}
		delete(r.figures, key{"event-edge", "c-epoll", "base"})
		r.order = r.order[:2]
	}
	runs, err := readHistory(dir)
	if err != nil || !reflect.DeepEqual(runs, want) {
		t.Errorf("%+v, %v", runs, err)
	}

	path := filepath.Join(dir, historyFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(string(text), "\n"); first != "date,commit,machine,measure,contestant,figure,rounds" {
		t.Error(first)
	}
	for _, damaged := range []string{"", "a,b\n", strings.Replace(string(text), "100.5", "x", 1), strings.Replace(string(text), "2026-01-01", "x", 1),
		string(text) + "2026-01-01T10:00:00Z,abc\n"} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readHistory(dir); err == nil || !strings.Contains(err.Error(), historyFile) {
			t.Errorf("%.60q: %v", damaged, err)
		}
	}
	// A run that could not be added later does not begin.
	if err := run(t.Context(), []string{"-quick", "-only", "^nothing$", "-out", dir}, io.Discard); err == nil {
		t.Error("the history is damaged, and bench runs")
	}
}

// A goal is judged on the median of the last runs of the same machine.
func TestGoals_AreJudgedOnSeveralRuns(t *testing.T) {
	ratio := versus("event-edge", "epore-epoll", "c-epoll", "ns")
	var runs []*results
	add := func(host string, ratio float64) *results {
		r := newResults()
		r.host, r.began = host, time.Date(2026, 1, 1+len(runs), 0, 0, 0, 0, time.UTC)
		r.add("event-edge", "c-epoll", "ns", 0, 100)
		r.add("event-edge", "epore-epoll", "ns", 0, 100*ratio)
		runs = append(runs, r)
		return r
	}
	add("here", 9) // too old
	add("here", 1.3)
	add("there", 9)
	add("here", 1)
	add("here", 1.1)
	add("here", 1.2)
	r := add("here", 1.5)
	r.previous = ofMachine(runs[:len(runs)-1], r.host)
	if s, ok := r.judged(ratio); !ok || s != (spread{1.2, 1, 1.5}) {
		t.Error(s, ok)
	}
	table := r.goalsTable()
	for _, want := range []string{
		"Medians of the last 5 runs on this machine (here), from 2026-01-02 to 2026-01-07",
		"| G1 | an event, epoll, edge, parks: ratio to C | 1.25 | 1.20 (1–1.50) | met |",
		"| G1 | the same: the stricter goal | 1.10 | 1.20 (1–1.50) | **missed** |",
		"- G1: " + inGo,
	} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q:\n%s", want, table)
		}
	}
	if strings.Count(table, inGo) != 1 || strings.Contains(table, "G3:") {
		t.Error("the reasons are not those of the missed goals, once each:", table)
	}

	r.previous = nil
	if s, ok := r.judged(ratio); !ok || s.median != 1.5 || !strings.HasPrefix(r.goalsTable(), "One run, on 2026-01-07 (here)") {
		t.Error(s, ok)
	}
	// What only earlier runs have was not measured.
	r = newResults()
	r.previous = runs
	if s, ok := r.judged(ratio); ok {
		t.Error(s)
	}
}

// The first screen says what was measured, and nothing else.
func TestTakeaway(t *testing.T) {
	r := filled()
	text := r.takeaway()
	if got := strings.Count(text, "\n- "); got != len(sentences) {
		t.Errorf("%d sentences besides the first, of %d and the goals:\n%s", got, len(sentences), text)
	}
	if strings.Contains(text, "%") || strings.Count(text, "![") != len(takeawayPictures) {
		t.Error(text)
	}
	r = newResults()
	r.add("threads", "epore-epoll", "threads", 0, 5)
	text = r.takeaway()
	if !strings.Contains(text, "need 5 threads") || strings.Count(text, "- ") != 2 || strings.Contains(text, "![") {
		t.Error(text)
	}
	if text := newResults().takeaway(); strings.Contains(text, "- **") {
		t.Error(text)
	}
}

// A plot that compares a few contestants leaves out those that were not measured everywhere.
func TestPlots_LinesAreComplete(t *testing.T) {
	c := curve{cells: []string{"echo-50-64", "echo-1000-64", "echo-5000-64"}, at: []float64{50, 1000, 5000}, name: "cpu", unit: 1, only: []string{"server-epore", "server-net", "server-gnet"}}
	r := newResults()
	for _, cell := range c.cells[:2] {
		r.add(cell, "server-epore", "cpu", 0, 1)
		r.add(cell, "server-net", "cpu", 0, 2)
		r.add(cell, "server-nbio", "cpu", 0, 3)
	}
	r.add(c.cells[0], "server-gnet", "cpu", 0, 4)
	if lines := r.lines(c); len(lines) != 2 || len(lines["server-epore"]) != 2 || len(lines["server-net"]) != 2 {
		t.Error(lines)
	}
	c.only = nil
	if lines := r.lines(c); len(lines) != 3 || lines["server-nbio"] == nil {
		t.Error(lines)
	}
}

// "make bench ONLY=echo" runs a part, without the programs, and "make bench" everything.
func TestMake(t *testing.T) {
	for arg, want := range map[string]string{
		"ONLY=echo": "go -C bench run . -only 'echo'\n",
		"ONLY=": "go -C bench run .\ngo -C bench/programs run . -out ../../docs/benchmarks/programs.md\n" +
			"go -C bench/files run . -out ../../docs/benchmarks/files.md\n",
	} {
		out, err := exec.Command("make", "-C", "..", "--no-print-directory", "-n", "bench", arg).Output()
		if errors.Is(err, exec.ErrNotFound) {
			t.Skip(err)
		}
		if err != nil || string(out) != want {
			t.Errorf("%s: %q, %v", arg, out, err)
		}
	}
}
