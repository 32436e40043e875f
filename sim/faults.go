package sim

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Fault is a way in which the world is worse than it could be: see [World.Faults]. All stay
// within Epore's contract, so a program that copes with them is right on every queue.
type Fault func(*link, *rand.Rand)

// link is what holds between two hosts.
type link struct {
	faults
	minLatency, maxLatency time.Duration
	bandwidth              int // bytes a second; 0: unlimited
	window                 int // bytes
	cut                    bool
	free                   [2]time.Duration // when the line is free again, by direction
	fixed                  bool             // it was set by Link
}

// faults are probabilities, from 0 to 1.
type faults struct {
	shortReads, shortWrites                     float64
	reset, loss, duplicate, reorder             float64
	spurious, missingHints, split, smallBatches float64
	shuffle                                     bool
}

// defaultLink is a perfect world.
func defaultLink(l *link, _ *rand.Rand) { *l = link{window: 64 << 10} }

// Latency makes each packet take from shortest to longest, each at most a year. Without it, what
// is sent arrives at the same instant, once everybody is at rest.
func Latency(shortest, longest time.Duration) Fault {
	const year = 365 * 24 * time.Hour // several of them can be added up
	shortest = min(max(shortest, 0), year)
	longest = min(max(longest, shortest), year)
	return func(l *link, _ *rand.Rand) { l.minLatency, l.maxLatency = shortest, longest }
}

// Bandwidth limits each direction of each link to so many bytes a second.
func Bandwidth(bytes int) Fault { return func(l *link, _ *rand.Rand) { l.bandwidth = max(bytes, 0) } }

// Window sets how many bytes of a stream may be under way or unread, for new connections; at
// least 1. By default it is 64 KiB.
func Window(bytes int) Fault { return func(l *link, _ *rand.Rand) { l.window = max(bytes, 1) } }

// share is a Fault of probability p.
func share(name string, p float64, of func(*link) *float64) Fault {
	if !(p >= 0 && p <= 1) { // or not a number
		panic(fmt.Sprintf("sim: %s(%v): a probability is from 0 to 1", name, p))
	}
	return func(l *link, _ *rand.Rand) { *of(l) = p }
}

// ShortReads makes that share of the reads of a stream return less than there is. The
// probability p is from 0 to 1, as that of the other Faults is. Otherwise they panic.
func ShortReads(p float64) Fault {
	return share("ShortReads", p, func(l *link) *float64 { return &l.shortReads })
}

// ShortWrites makes that share of the writes to a stream take only a part, and then find no
// room for a moment.
func ShortWrites(p float64) Fault {
	return share("ShortWrites", p, func(l *link) *float64 { return &l.shortWrites })
}

// Resets makes that share of the packets of streams reset their connection.
func Resets(p float64) Fault {
	return share("Resets", p, func(l *link) *float64 { return &l.reset })
}

// Loss loses that share of the packets. Those of streams are sent again, and so arrive later.
func Loss(p float64) Fault {
	return share("Loss", p, func(l *link) *float64 { return &l.loss })
}

// Duplicates lets that share of the datagrams arrive twice.
func Duplicates(p float64) Fault {
	return share("Duplicates", p, func(l *link) *float64 { return &l.duplicate })
}

// Reordering makes that share of the datagrams take up to ten times as long, and at least a
// millisecond.
func Reordering(p float64) Fault {
	return share("Reordering", p, func(l *link) *float64 { return &l.reorder })
}

// Spurious adds, to that share of the Polls, an event whose source is not ready (rule M9). It
// and the next four are for all hosts only, not for a link.
func Spurious(p float64) Fault {
	return share("Spurious", p, func(l *link) *float64 { return &l.spurious })
}

// MissingHints removes ReadClosed and WriteClosed from that share of the events (rule M7).
func MissingHints(p float64) Fault {
	return share("MissingHints", p, func(l *link) *float64 { return &l.missingHints })
}

// SplitEvents reports Readable and Writable of one source in two events, in that share of the
// cases (rule P6). One-shot registrations still give one event (rule M3).
func SplitEvents(p float64) Fault {
	return share("SplitEvents", p, func(l *link) *float64 { return &l.split })
}

// SmallBatches makes that share of the Polls return at most four events.
func SmallBatches(p float64) Fault {
	return share("SmallBatches", p, func(l *link) *float64 { return &l.smallBatches })
}

// Shuffle orders the events of each batch at random.
func Shuffle() Fault { return func(l *link, _ *rand.Rand) { l.shuffle = true } }

// Swarm draws a set of faults from the seed: which, and how often. Resets are never among
// them, because they end even the connections of a correct program: add them if it shall cope.
func Swarm() Fault {
	return func(l *link, r *rand.Rand) {
		draw := func(p float64) float64 {
			switch r.IntN(3) {
			case 0:
				return 0
			case 1:
				return p / 10
			}
			return p
		}
		if r.IntN(4) > 0 {
			longest := time.Duration(1) << (10 + r.IntN(19)) // 1 µs to 0.5 s
			l.minLatency, l.maxLatency = longest/time.Duration(1+r.IntN(20)), longest
		}
		if r.IntN(3) == 0 {
			l.bandwidth = 1 << (10 + r.IntN(15))
		}
		if r.IntN(2) == 0 {
			l.window = 1 << r.IntN(17)
		}
		l.shortReads, l.shortWrites = draw(0.5), draw(0.5)
		l.loss, l.duplicate, l.reorder = draw(0.1), draw(0.1), draw(0.3)
		l.spurious, l.missingHints, l.split, l.smallBatches = draw(0.05), draw(1), draw(0.5), draw(0.5)
		l.shuffle = r.IntN(2) == 0
	}
}

// Faults sets the faults of the World, instead of those that it had. Without any, the world is
// perfect. Links of [World.Link] keep theirs.
func (w *World) Faults(f ...Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faultDraws++
	r := rand.New(rand.NewPCG(w.seed, w.faultDraws<<40))
	free, cut := w.defaults.free, w.defaults.cut
	defaultLink(&w.defaults, nil)
	w.defaults.free, w.defaults.cut = free, cut
	for _, f := range f {
		f(&w.defaults, r)
	}
	for _, l := range w.links {
		if !l.fixed {
			w.copyDefaults(l)
		}
	}
}

// copyDefaults gives a link the faults of the World.
func (w *World) copyDefaults(l *link) {
	free, cut := l.free, l.cut
	*l = w.defaults
	l.free, l.cut = free, cut
}

// Link sets the faults between two Hosts, in both directions, instead of those of the World.
func (w *World) Link(a, b *Host, f ...Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faultDraws++
	r := rand.New(rand.NewPCG(w.seed, w.faultDraws<<40))
	l := w.link(a, b)
	free, cut := l.free, l.cut
	defaultLink(l, nil)
	l.free, l.cut, l.fixed = free, cut, true
	for _, f := range f {
		f(l, r)
	}
}

// link returns what holds between two hosts. Called with the lock held.
func (w *World) link(a, b *Host) *link {
	if a.w != w || b.w != w {
		panic("sim: a Host of another World")
	}
	if a.number > b.number {
		a, b = b, a
	}
	k := [2]*Host{a, b}
	l := w.links[k]
	if l == nil {
		l = new(link)
		w.copyDefaults(l)
		w.links[k] = l
	}
	return l
}

// Partition cuts the links between a Host and others: what is sent is lost. Streams send it
// again, until their connection times out after some 15 minutes.
func (w *World) Partition(a *Host, others ...*Host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range others {
		w.link(a, b).cut = true
		w.record(record{what: changedWorld, text: a.name + " and " + b.name + " are cut off from each other"})
	}
}

// Heal ends all partitions. What streams have not delivered is sent again at once, and so are
// attempts to connect.
func (w *World) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.links {
		l.cut = false
	}
	w.record(record{what: changedWorld, text: "all links are whole again"})
	for _, h := range w.hosts {
		for _, s := range h.sortedConns() {
			s.hurry()
		}
	}
}

// PacketKind says what a Packet is.
type PacketKind uint8

const (
	// Connect asks for a connection.
	Connect PacketKind = iota
	// Accepted answers Connect.
	Accepted
	// Data is bytes of a stream.
	Data
	// End is the end of one direction of a stream.
	End
	// Reset ends a connection at once, or refuses it.
	Reset
	// Datagram is a datagram of a packet socket.
	Datagram
	// Unreachable answers a Datagram that no socket wants.
	Unreachable
)

// String returns the name of the kind.
func (k PacketKind) String() string {
	return [...]string{"connect", "accepted", "data", "end", "reset", "datagram", "unreachable"}[k]
}

// Packet is something on its way from one Host to another.
type Packet struct {
	From, To         *Host
	FromPort, ToPort uint16
	Kind             PacketKind
	Data             []byte // not to be changed or kept
}

// Verdict is what becomes of a Packet.
type Verdict uint8

const (
	// Deliver lets it arrive.
	Deliver Verdict = iota
	// Drop loses it. A stream sends it again, except for a Reset.
	Drop
	// Sever resets the connection of a stream on both sides, and drops a Datagram.
	Sever
)

// Rule has f decide about each packet when it would arrive. There is one Rule; nil ends it.
// The function f must not call methods of the World, of a Host or of a socket.
func (w *World) Rule(f func(*Packet) Verdict) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rule = f
}

// arrives decides whether a packet arrives now. Called with the lock held.
func (w *World) arrives(p *Packet) Verdict {
	v := Deliver
	switch {
	case w.link(p.From, p.To).cut, p.To.down:
		v = Drop
	case w.rule != nil:
		v = w.rule(p)
	}
	r := record{what: arrived, from: endpoint{p.From, p.FromPort}, to: endpoint{p.To, p.ToPort}, n: len(p.Data), text: p.Kind.String()}
	if v != Deliver {
		r.what = lost
	}
	w.record(r)
	return v
}
