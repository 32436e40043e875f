package backend

import (
	"strconv"
	"strings"
)

// Interest is a set of conditions to watch for and modes of reporting them. It
// has at least one of the conditions [Readable], [Writable] and [Priority], and
// any compatible combination of the modes [Edge], [OneShot] and [Exclusive].
// Without a mode, the registration is level-triggered: every wait reports it
// while the condition holds.
type Interest uint8

const (
	// Readable requests data, a connection to accept, or the end of the stream.
	Readable Interest = 1 << iota
	// Writable requests room to write, or the end of a connection attempt.
	Writable
	// Priority requests urgent data (POLLPRI, such as TCP's out-of-band byte).
	Priority

	// Edge reports a condition when it arises, not while it holds. After an
	// event, the next one is certain only after the operation has returned "would
	// block".
	Edge
	// OneShot reports one event and then nothing until the registration is
	// replaced.
	OneShot
	// Exclusive wakes at least one, but not all, of several queues that wait in
	// the kernel for the same source. It is compatible with level and Edge, but not
	// with OneShot or Priority. Only epoll supports it.
	Exclusive

	endOfInterest
)

// Conditions are the bits of an Interest that select what to wait for. The
// others are modes.
const Conditions = Readable | Writable | Priority

// Has reports whether in contains every bit of bits.
func (in Interest) Has(bits Interest) bool { return in&bits == bits }

// Unknown returns the bits of in that have no constant.
func (in Interest) Unknown() Interest { return in &^ (endOfInterest - 1) }

// String returns the names of the bits, such as "Readable|Edge".
func (in Interest) String() string {
	return names(uint(in), "Readable", "Writable", "Priority", "Edge", "OneShot", "Exclusive")
}

// Readiness is a set of conditions that an event reports about its source.
type Readiness uint32

const (
	// ReadyReadable means that a read does not block.
	ReadyReadable Readiness = 1 << iota
	// ReadyWritable means that a write does not block.
	ReadyWritable
	// ReadyPriority means that urgent data is available.
	ReadyPriority
	// ReadyError means that an error is pending on the source, such as SO_ERROR or
	// a pipe without a reader.
	ReadyError
	// ReadyReadClosed means that no data will arrive beyond what is buffered.
	ReadyReadClosed
	// ReadyWriteClosed means that nothing more can be sent.
	ReadyWriteClosed
)

// always are the bits that are reported whether or not they were requested.
const always = ReadyError | ReadyReadClosed | ReadyWriteClosed

// For returns the part of r that a registration with interest in reports: the requested
// conditions, plus the error and closed bits. With an error or closed bit, it adds
// ReadyReadable and ReadyWritable if they were requested and are affected, so that a
// program that ignores the other bits finds out by reading or writing. The core applies For
// to the events of every backend, so a backend may report what its kernel reports.
func (r Readiness) For(in Interest) Readiness {
	if r&always != 0 {
		if r&(ReadyError|ReadyReadClosed) != 0 {
			r |= ReadyReadable
		}
		if r&(ReadyError|ReadyWriteClosed) != 0 {
			r |= ReadyWritable
		}
	}
	return r & (Readiness(in&Conditions) | always)
}

// Has reports whether r contains every bit of bits.
func (r Readiness) Has(bits Readiness) bool { return r&bits == bits }

// String returns the names of the bits, such as "Readable|ReadClosed".
func (r Readiness) String() string {
	return names(uint(r), "Readable", "Writable", "Priority", "Error", "ReadClosed", "WriteClosed")
}

// names joins the names of the bits that are set, lowest bit first. It formats
// bits without a name as a number.
func names(bits uint, of ...string) string {
	if bits == 0 {
		return "none"
	}
	var b strings.Builder
	sep := func() {
		if b.Len() > 0 {
			b.WriteByte('|')
		}
	}
	for i, name := range of {
		if bits&(1<<i) != 0 {
			sep()
			b.WriteString(name)
		}
	}
	if rest := bits &^ (1<<len(of) - 1); rest != 0 {
		sep()
		b.WriteString("0x" + strconv.FormatUint(uint64(rest), 16))
	}
	return b.String()
}
