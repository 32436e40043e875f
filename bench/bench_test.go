package main

import (
	"context"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
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
	if err := os.WriteFile(doc, []byte("before\n"+beginMark+"old\n"+endMark+"after\n"), 0o600); err != nil {
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
	if got := read("doc.md"); got != "before\n"+beginMark+"\n"+r.goalsTable()+"\n"+endMark+"after\n" {
		t.Error(got)
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
