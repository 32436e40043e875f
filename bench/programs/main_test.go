package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain runs a contestant if the test program is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) >= 3 && os.Args[1] == "serve" {
		main()
		return
	}
	os.Exit(m.Run())
}

// Every contestant that needs no other program runs, and the document names it.
func TestCompare_WritesTablesAndPlot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "programs.md")
	o := options{rounds: 1, quick: true, only: "^(proxy-bulk.*|chat-.*)$", out: file}
	if err := o.compare(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	plot, err := os.ReadFile(strings.TrimSuffix(file, ".md") + ".svg")
	if err != nil {
		t.Fatal(err)
	}
	if all := "| " + msGigabitAll + " |"; !strings.Contains(string(text), all) {
		t.Errorf("no table has the column %q", all)
	}
	for _, k := range append(append([]contestant{}, proxy...), chat...) {
		if k.id == "haproxy" {
			continue // it may be missing
		}
		if !strings.Contains(string(text), "| "+k.title+" | ") || strings.Contains(string(text), k.title+" | not measured") {
			t.Errorf("the table has no figure of %s", k.title)
		}
		if title := strings.ReplaceAll(k.title, "**", ""); !strings.Contains(string(plot), ">"+title+"<") {
			t.Errorf("the plot has no bar of %s", k.title)
		}
	}
	for d := xml.NewDecoder(strings.NewReader(string(plot))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal("plot: ", err)
		}
	}
}

// Figures are compared within their round.
func TestResult_RatiosByRound(t *testing.T) {
	r := &result{figures: [][]float64{{10, 100, 20}, {20, 100, 10}}}
	if got := spread(r.ratios(1), 2); got != "1.00 (0.50–2.00)" {
		t.Error(got)
	}
}
