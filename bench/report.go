package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// column is a figure of a cell in the tables.
type column struct{ name, title string }

// columns are the columns of each kind of cell, by measure. The ratio is that of the first.
func (c *cell) columns() []column {
	switch {
	case c.kind == serve && c.tls:
		return []column{{"cpu", "server CPU, ns per message"}, {"rate", "messages/s"}}
	case c.kind == serve:
		return []column{{"cpu", "server CPU, ns per message"}, {"p50", "latency p50, µs"}, {"p99", "p99, µs"}, {"p999", "p99.9, µs"}, {"rate", "messages/s"}}
	case c.kind == idle:
		return []column{{"bytes", "bytes"}, {"connections", "connections"}}
	case c.kind == move && c.args[0] == "proxy":
		return []column{{"cpu", "CPU, ms per gigabit"}, {"rate", "gigabit/s"}}
	case c.kind == move:
		return []column{{"cpu", "server CPU, ns per datagram"}, {"rate", "datagrams/s"}}
	}
	switch c.args[0] {
	case "timers":
		return []column{{"set", "set, ns"}, {"stop", "stop, ns"}, {"fire", "fire, ns"}}
	case "late":
		return []column{{"us", "microseconds"}}
	case "threads":
		return []column{{"threads", "threads"}}
	case "memory":
		return []column{{"bytes", "bytes"}}
	case "allocs":
		return []column{{"poll", "look"}, {"wait", "wait with a timeout"}, {"event", "event"}, {"register", "register + deregister"}, {"wake", "wake"}}
	}
	return []column{{"ns", "ns"}}
}

// hasRatio reports whether rows are compared with the first one.
func (c *cell) hasRatio() bool {
	return c.kind == serve || c.kind == move || c.kind == idle && c.tls || c.kind == queue && (c.columns()[0].name == "ns" || c.args[0] == "timers")
}

// scale converts a figure for its column.
func (col column) scale(s spread) spread {
	if strings.Contains(col.title, "µs") {
		return spread{s.median / 1000, s.min / 1000, s.max / 1000}
	}
	return s
}

// markdown returns the report.
func (r *results) markdown() string {
	var b strings.Builder
	b.WriteString("<!-- written by bench; not by hand -->\n\n# All figures\n\n")
	fmt.Fprintf(&b, "Measured on %s in %s. Medians over the rounds, with the lowest and the highest. A ratio is the median of the ratios round by round, to the contestant that stands first.\n\n",
		r.began.UTC().Format(time.DateOnly), r.took.Round(time.Second))
	for _, line := range r.machine {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	b.WriteString("\n")
	r.absent(&b)
	b.WriteString("## The goals\n\n" + r.goalsTable() + "\n")
	for i := range cells {
		r.table(&b, &cells[i])
	}
	return b.String()
}

// absent lists the contestants and measures that are missing in the tables.
func (r *results) absent(b *strings.Builder) {
	for _, c := range contestants {
		if why := r.missing[c.id]; why != "" {
			fmt.Fprintf(b, "- **missing**: %s: %s\n", c.title, why)
		}
	}
	if why := r.missing[client]; why != "" {
		fmt.Fprintf(b, "- **missing**: %s\n", why)
	}
	for _, f := range r.failed {
		fmt.Fprintf(b, "- **failed**: %s\n", f)
	}
	if len(r.missing)+len(r.failed) > 0 {
		b.WriteString("\n")
	}
}

func (r *results) table(b *strings.Builder, c *cell) {
	columns := c.columns()
	rows, lacking, first := "", []string(nil), ""
	for _, k := range contestants {
		if r.lacks[[2]string{c.id, k.id}] {
			lacking = append(lacking, strings.ReplaceAll(k.title, "**", ""))
		}
		if _, ok := r.get(c.id, k.id, columns[0].name); !ok {
			continue
		}
		if first == "" {
			first = k.id
		}
		rows += "| " + k.title
		for _, col := range columns {
			s, _ := r.get(c.id, k.id, col.name)
			rows += " | " + col.scale(s).String()
		}
		if c.hasRatio() {
			s, _ := r.ratio(c.id, k.id, first, columns[0].name, columns[0].name)
			rows += " | " + s.String()
		}
		rows += " |\n"
	}
	if rows == "" {
		return
	}
	fmt.Fprintf(b, "## %s\n\n", c.title)
	if n, ok := r.get(c.id, first, "registered"); ok {
		fmt.Fprintf(b, "Registered: %s.\n\n", n)
	}
	b.WriteString("| |")
	rule := "|---|"
	for _, col := range columns {
		b.WriteString(" " + col.title + " |")
		rule += "---|"
	}
	if c.hasRatio() {
		fmt.Fprintf(b, " ratio: %s |", strings.TrimSuffix(columns[0].title, ", ns"))
		rule += "---|"
	}
	b.WriteString("\n" + rule + "\n" + rows + "\n")
	if len(lacking) > 0 {
		fmt.Fprintf(b, "Without this: %s.\n\n", strings.Join(lacking, "; "))
	}
}

// block is a part of a document that bench writes, between two marks.
type block struct{ name, text string }

func (b block) begin() string { return "<!-- begin: " + b.name + ", written by bench -->\n" }

const endMark = "<!-- end -->"

// blocks are the parts of docs/benchmarks.md that a run changes.
func (r *results) blocks() []block {
	return []block{{"takeaway", r.takeaway()}, {"goals", r.goalsTable()}, {"growth", r.growth()}}
}

// replaceBlocks returns a document with new texts between its marks.
func replaceBlocks(path string, blocks []block) (string, error) {
	old, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	doc := string(old)
	for _, b := range blocks {
		before, rest, ok := strings.Cut(doc, b.begin())
		_, after, ok2 := strings.Cut(rest, endMark)
		if !ok || !ok2 {
			return "", fmt.Errorf("%s does not have the lines %q and %q, between which bench writes", path, b.begin(), endMark)
		}
		doc = before + b.begin() + "\n" + b.text + "\n" + endMark + after
	}
	return doc, nil
}

// insert puts texts between the marks of a document.
func insert(path string, blocks []block) error {
	doc, err := replaceBlocks(path, blocks)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(doc), 0o666)
}
