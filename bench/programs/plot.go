package main

import (
	"fmt"
	"html"
	"strings"
)

// The plot: a bar for each contestant of each cell, as long as its ratio to the first one.
const (
	names     = 330 // px for names
	unitWidth = 110 // px for a ratio of 1
	longest   = 4   // longer bars are cut, and say so
	barStep   = 20
	width     = names + longest*unitWidth + 90
)

// drawn returns the plot as SVG.
func drawn(results []*result) string {
	var b strings.Builder
	y := 40
	fmt.Fprintf(&b, `<text x="10" y="24" font-size="16" font-weight="bold">Compared with Epore (1.00); shorter is better</text>`+"\n")
	top := y
	for _, r := range results {
		if r.skipped != "" || len(r.figures[0]) == 0 {
			continue
		}
		y += barStep + 8
		fmt.Fprintf(&b, `<text x="10" y="%d" font-weight="bold">%s: %s</text>`+"\n", y, html.EscapeString(r.title), r.unit)
		y += 8
		for i, k := range r.contestants {
			if r.missing[i] != "" {
				continue
			}
			ratio := median(r.ratios(i))
			color := "#3c6eb4"
			if i == 0 {
				color = "#c83c1e"
			}
			cut := ""
			if ratio > longest {
				cut = " →"
			}
			length := int(min(ratio, longest) * unitWidth)
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%d" height="%d" fill="%s"/><text x="%d" y="%d">%.2f%s</text>`+"\n",
				names-8, y+13, html.EscapeString(strings.ReplaceAll(k.title, "**", "")), names, y+2, length, barStep-5, color, names+length+6, y+13, ratio, cut)
			y += barStep
		}
	}
	fmt.Fprintf(&b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#888" stroke-dasharray="3 3"/>`+"\n", names+unitWidth, top, names+unitWidth, y)
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12"><rect width="100%%" height="100%%" fill="white"/>`+"\n%s</svg>\n",
		width, y+20, b.String())
}
