package main

import (
	"image/color"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// curve is a plot of one figure over a parameter, with a line for each contestant.
type curve struct {
	file, title, x, y string
	cells             []string
	at                []float64 // of each cell
	name              string
	unit              float64 // by which figures are divided
	only              []string
	growth            bool // it belongs to the growth plots of docs/benchmarks.md
}

// bars is a plot of one figure of a cell, with a bar for each contestant.
type bars struct{ file, title, cell, name string }

var allCurves = []curve{
	{file: "event-by-active", title: "An event, edge-triggered, of 2,000 registered", x: "active", y: "ns an event",
		cells: []string{"event-active-1", "event-active-8", "event-edge", "event-active-256"}, at: []float64{1, 8, 64, 256}, name: "ns", unit: 1, only: curves},
	{file: "event-by-registered", title: "An event, edge-triggered, the same 64 active", x: "registered", y: "ns an event",
		cells: []string{"event-registered-100", "event-registered-1000", "event-registered-9000"}, at: []float64{100, 1000, 9000}, name: "ns", unit: 1, only: curves, growth: true},
	{file: "look-by-registered", title: "A look that finds one ready", x: "registered", y: "µs",
		cells: []string{"look-1", "look-30", "look-100", "look-1000", "look-9000"}, at: []float64{1, 30, 100, 1000, 9000}, name: "ns", unit: 1000},
	{file: "echo-by-connections", title: "Echo, 64 bytes: CPU of the server", x: "connections", y: "µs a message",
		cells: []string{"echo-50-64", "echo-1000-64", "echo-5000-64", "echo-19000-64"}, at: []float64{50, 1000, 5000, 19000}, name: "cpu", unit: 1000,
		only: []string{"server-c-level", "server-epore", "server-epore-loop", "server-net", "server-gnet"}, growth: true},
	{file: "echo-latency", title: "Echo, 64 bytes: 99th percentile of the latency", x: "connections", y: "µs",
		cells: []string{"echo-1-64", "echo-50-64", "echo-1000-64", "echo-5000-64", "echo-19000-64"}, at: []float64{1, 50, 1000, 5000, 19000}, name: "p99", unit: 1000},
	{file: "echo-by-size", title: "Echo, 50 connections: CPU of the server", x: "bytes", y: "µs a message",
		cells: []string{"echo-50-64", "echo-50-4096", "echo-50-65536"}, at: []float64{64, 4096, 65536}, name: "cpu", unit: 1000},
	timerCurve("set", "Setting a timer, of so many"), timerCurve("fire", "A timer that fires, of so many"),
	{file: "event-by-loops", title: "An event, edge-triggered, of each loop, on two processors", x: "loops at the same time", y: "ns an event",
		cells: []string{"loops-1", "loops-2"}, at: []float64{1, 2}, name: "ns", unit: 1, growth: true},
}

func timerCurve(name, title string) curve {
	c := curve{file: "timers-" + name + "-by-number", title: title, x: "timers", y: "ns", name: name, unit: 1, growth: true,
		only: []string{"epore-epoll", "epore-uring", "net", "libuv", "libev"}}
	for _, n := range []int{100, 1000, 10_000, 100_000, 1_000_000} {
		c.cells, c.at = append(c.cells, timersOf(n).id), append(c.at, float64(n))
	}
	return c
}

var allBars = []bars{
	{"event-edge", "An event, edge-triggered: 64 active of 2,000 (ns)", "event-edge", "ns"},
	{"event-level", "An event, level-triggered: 64 active of 2,000 (ns)", "event-level", "ns"},
	{"register", "Registering and deregistering (ns)", "register", "ns"},
	{"pingpong-10", "A round trip between two goroutines, 10 pairs (ns)", "pingpong-10", "ns"},
	{"idle", "Memory of an idle TCP connection, of 8,000 (bytes)", "idle-8000", "bytes"},
}

// Epore's lines stand out.
var (
	ours   = color.RGBA{R: 200, G: 60, B: 30, A: 255}
	floor  = color.RGBA{A: 255}
	others = []color.Color{
		color.RGBA{R: 60, G: 110, B: 180, A: 255}, color.RGBA{R: 70, G: 150, B: 90, A: 255}, color.RGBA{R: 150, G: 100, B: 170, A: 255},
		color.RGBA{R: 130, G: 130, B: 130, A: 255}, color.RGBA{R: 170, G: 140, B: 50, A: 255}, color.RGBA{R: 60, G: 160, B: 170, A: 255},
	}
)

func plain(id string) string { return strings.ReplaceAll(title(id), "**", "") }

func isOurs(id string) bool { return strings.Contains(id, "epore") }

// plot draws all plots that have figures.
func (r *results) plot(dir string) error {
	for _, c := range allCurves {
		if err := r.plotCurve(dir, c); err != nil {
			return err
		}
	}
	for _, b := range allBars {
		if err := r.plotBars(dir, b); err != nil {
			return err
		}
	}
	return nil
}

// marks are the tick labels of an axis.
type marks []float64

func (m marks) Ticks(_, _ float64) (list []plot.Tick) {
	for _, v := range m {
		list = append(list, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', -1, 64)})
	}
	return list
}

// lines returns the points of each contestant in a plot, by its id. A line needs two points.
// If the plot names its contestants, their lines have equally many.
func (r *results) lines(c curve) map[string]plotter.XYs {
	lines := make(map[string]plotter.XYs)
	most := 2
	for _, k := range contestants {
		if c.only != nil && !slices.Contains(c.only, k.id) {
			continue
		}
		for i, cell := range c.cells {
			if s, ok := r.get(cell, k.id, c.name); ok {
				lines[k.id] = append(lines[k.id], plotter.XY{X: c.at[i], Y: s.median / c.unit})
			}
		}
		if c.only != nil {
			most = max(most, len(lines[k.id]))
		}
	}
	maps.DeleteFunc(lines, func(_ string, points plotter.XYs) bool { return len(points) < most })
	return lines
}

func (r *results) plotCurve(dir string, c curve) error {
	lines := r.lines(c)
	if len(lines) == 0 {
		return nil
	}
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.title, c.x, c.y
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, marks(c.at)
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	highest, other := 0.0, 0
	for _, k := range contestants {
		points := lines[k.id]
		if points == nil {
			continue
		}
		for _, point := range points {
			highest = max(highest, point.Y)
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		switch {
		case isOurs(k.id):
			line.Color = ours
			line.Width = vg.Points(2)
			if strings.Contains(k.id, "uring") {
				line.Dashes = []vg.Length{vg.Points(6), vg.Points(3)}
			} else if strings.Contains(k.id, "block") {
				line.Dashes = []vg.Length{vg.Points(2), vg.Points(2)}
			} else if strings.Contains(k.id, "loop") {
				line.Dashes = []vg.Length{vg.Points(10), vg.Points(2), vg.Points(2), vg.Points(2)}
			}
		case strings.Contains(k.id, "c-"):
			line.Color = floor
			if strings.Contains(k.id, "edge") {
				line.Dashes = []vg.Length{vg.Points(2), vg.Points(2)}
			}
		default:
			line.Color = others[other%len(others)]
			other++
		}
		dots.Color, dots.Shape = line.Color, draw.CircleGlyph{}
		p.Add(line, dots)
		p.Legend.Add(plain(k.id), line)
	}
	p.Y.Min, p.Y.Max = 0, highest*1.7 // room for the legend
	return save(p, 18*vg.Centimeter, 12*vg.Centimeter, filepath.Join(dir, c.file+".png"))
}

// save draws a plot with a margin, because the last tick label extends past its axis.
func save(p *plot.Plot, width, height vg.Length, path string) error {
	const margin = vg.Centimeter / 2
	p.Title.Padding = vg.Points(8)
	p.BackgroundColor = color.White
	canvas := vgimg.New(width, height)
	whole := draw.New(canvas)
	whole.SetColor(color.White)
	whole.Fill(whole.Rectangle.Path())
	p.Draw(draw.Crop(whole, margin, -margin, margin, -margin))
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := (vgimg.PngCanvas{Canvas: canvas}).WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}

// hasBars reports whether a plot has figures.
func (r *results) hasBars(b bars) bool {
	return slices.ContainsFunc(contestants, func(k contestant) bool {
		_, ok := r.get(b.cell, k.id, b.name)
		return ok
	})
}

func (r *results) plotBars(dir string, b bars) error {
	var names []string
	var own, foreign plotter.Values
	for i := len(contestants) - 1; i >= 0; i-- { // from below
		k := contestants[i]
		s, ok := r.get(b.cell, k.id, b.name)
		if !ok {
			continue
		}
		names = append(names, plain(k.id))
		x, y := 0.0, math.Max(s.median, 0)
		if isOurs(k.id) {
			x, y = y, x
		}
		own, foreign = append(own, x), append(foreign, y)
	}
	if len(names) == 0 {
		return nil
	}
	p := plot.New()
	p.Title.Text = b.title
	for values, c := range map[*plotter.Values]color.Color{&own: ours, &foreign: others[0]} {
		chart, err := plotter.NewBarChart(*values, vg.Points(12))
		if err != nil {
			return err
		}
		chart.Horizontal, chart.Color, chart.LineStyle.Width = true, c, 0
		p.Add(chart)
	}
	p.NominalY(names...)
	p.X.Min = 0
	return save(p, 18*vg.Centimeter, vg.Length(len(names)+4)*vg.Centimeter*0.75, filepath.Join(dir, b.file+".png"))
}
