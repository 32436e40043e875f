package backend

import (
	"strconv"
	"strings"
)

// Interest is what to watch for, and how to report it: at least one of
// [Readable], [Writable] and [Priority], and any of the mode bits that go
// together. Without a mode bit the registration is level-triggered: it is
// reported by every wait for as long as the condition holds.
type Interest uint8

const (
	// Readable asks for data, a connection to accept, or the end of the stream.
	Readable Interest = 1 << iota
	// Writable asks for room to write, or the end of a connection attempt.
	Writable
	// Priority asks for urgent data (POLLPRI: out-of-band bytes of TCP).
	Priority

	// Edge reports a condition when it arises, not while it lasts: after an
	// event, a further one is certain only once the operation has answered
	// "would block".
	Edge
	// OneShot reports one event and then nothing, until the source is registered
	// anew.
	OneShot
	// Exclusive wakes at least one and not all of several queues that wait in the
	// kernel for one source. It goes with level and with Edge, not with OneShot or
	// Priority. Only epoll has it.
	Exclusive

	endOfInterest
)

// Conditions are the bits of an Interest that say what to wait for; the others
// say how.
const Conditions = Readable | Writable | Priority

// Has reports whether every bit of bits is in in.
func (in Interest) Has(bits Interest) bool { return in&bits == bits }

// Unknown returns the bits of in that no constant names.
func (in Interest) Unknown() Interest { return in &^ (endOfInterest - 1) }

// String names the bits: "Readable|Edge".
func (in Interest) String() string {
	return names(uint(in), "Readable", "Writable", "Priority", "Edge", "OneShot", "Exclusive")
}

// Readiness is what an event says about its source.
type Readiness uint32

const (
	// ReadyReadable: a read will not block.
	ReadyReadable Readiness = 1 << iota
	// ReadyWritable: a write will not block.
	ReadyWritable
	// ReadyPriority: urgent data is there.
	ReadyPriority
	// ReadyError: the source has an error pending (SO_ERROR, or the reader of a
	// pipe is gone).
	ReadyError
	// ReadyReadClosed: nothing more will arrive after what is buffered.
	ReadyReadClosed
	// ReadyWriteClosed: nothing more can be sent.
	ReadyWriteClosed
)

// always are the bits that are reported without being asked for.
const always = ReadyError | ReadyReadClosed | ReadyWriteClosed

// For returns what a registration with interest in gets to see of r. A backend
// reports what its kernel says; here, once for all of them, it becomes what was
// promised: only the conditions asked for, plus error and closed, and these
// together with readable or writable as far as those were asked for, so that
// a program that looks at nothing else finds out by reading or writing.
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

// Has reports whether every bit of bits is in r.
func (r Readiness) Has(bits Readiness) bool { return r&bits == bits }

// String names the bits: "Readable|ReadClosed".
func (r Readiness) String() string {
	return names(uint(r), "Readable", "Writable", "Priority", "Error", "ReadClosed", "WriteClosed")
}

// names joins the names of the bits that are set, the lowest first; bits beyond
// the names are given as a number.
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
