package sim

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/epore/epore/backend"
)

// record is a line of the trace. It becomes text only when somebody reads it.
type record struct {
	at       time.Duration
	what     what
	from, to endpoint
	queue    string
	n        int
	ready    backend.Readiness
	text     string
}

// what says what happened.
type what uint8

const (
	noted what = iota
	turned
	delivered // an event, to a queue
	arrived
	lost
	changedWorld
)

// endpoint is a host and a port.
type endpoint struct {
	host *Host
	port uint16
}

func (e endpoint) String() string {
	if e.host == nil {
		return "?"
	}
	return fmt.Sprintf("%s:%d", e.host.name, e.port)
}

func (r *record) String() string {
	switch r.what {
	case noted:
		return r.text
	case turned:
		return r.queue + " runs"
	case delivered:
		text := fmt.Sprintf("%s gets %v of %v", r.queue, r.ready, r.from)
		if r.text != "" {
			text += ", " + r.text
		}
		return text
	case arrived:
		return fmt.Sprintf("%v -> %v %s", r.from, r.to, r.payload())
	case lost:
		return fmt.Sprintf("%v -> %v %s is lost", r.from, r.to, r.payload())
	}
	return r.text
}

func (r *record) payload() string {
	if r.n == 0 {
		return r.text
	}
	return fmt.Sprintf("%s %d", r.text, r.n)
}

// keptRecords is how many lines are kept for a test that fails.
const keptRecords = 100

// trace is what has happened.
type trace struct {
	digest uint64 // of all of it
	kept   [keptRecords]record
	count  int
	out    io.Writer
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// record adds a line. Called with the lock held.
func (w *World) record(r record) {
	t := &w.trace
	r.at = w.now()
	d := t.digest
	add := func(n uint64) { d = (d ^ n) * fnvPrime }
	add(uint64(r.at))
	add(uint64(r.what)<<56 ^ uint64(r.ready)<<40 ^ uint64(r.from.port)<<16 ^ uint64(r.to.port))
	add(uint64(r.n))
	for _, s := range [...]string{r.queue, r.text} {
		for i := range len(s) {
			add(uint64(s[i]))
		}
	}
	t.digest = d
	t.kept[t.count%keptRecords] = r
	t.count++
	if t.out != nil {
		if _, err := fmt.Fprintf(t.out, "%v %v\n", r.at, &r); err != nil {
			t.out = nil
			w.t.Errorf("sim: writing the trace: %v", err)
		}
	}
}

// last returns the last lines.
func (t *trace) last() string {
	var b strings.Builder
	for i := max(0, t.count-keptRecords); i < t.count; i++ {
		r := &t.kept[i%keptRecords]
		fmt.Fprintf(&b, "%v %v\n", r.at, r)
	}
	return b.String()
}
