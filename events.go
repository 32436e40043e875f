package epore

import (
	"fmt"
	"iter"

	"github.com/epore/epore/backend"
)

// Token is the caller's own word for a registration, returned with its events:
// an index, an identifier, whatever fits 64 bits. No value is reserved, and
// nothing asks that tokens differ.
type Token uint64

// Interest is what to watch a source for and how to report it; see the
// constants. At least one of Readable, Writable and Priority must be there.
type Interest = backend.Interest

// What to watch for, and the modes. Without a mode bit a registration is
// level-triggered.
const (
	// Readable asks for data, for a connection to accept, and for the end of the
	// stream.
	Readable = backend.Readable
	// Writable asks for room to write, and for the end of a connection attempt.
	Writable = backend.Writable
	// Priority asks for urgent data: TCP's out-of-band byte (POLLPRI).
	Priority = backend.Priority

	// Edge reports a condition when it arises rather than for as long as it
	// lasts: read or write until "would block", then the next event is certain.
	// poll(2) has none (errors.ErrUnsupported).
	Edge = backend.Edge
	// OneShot reports one event, for whichever condition, then nothing until
	// Reregister.
	OneShot = backend.OneShot
	// Exclusive, on one source registered with several Polls of strategy
	// [Block], wakes at least one of them and not all (EPOLLEXCLUSIVE). With
	// [Park] it is only "at least one": there, prefer a listener for each Poll,
	// with SO_REUSEPORT. It does not go together with OneShot, nor with Priority, and
	// only epoll has it (else errors.ErrUnsupported).
	Exclusive = backend.Exclusive
)

// Readiness is the set of conditions in an [Event]; its constants are in
// package backend. Event's methods read it.
type Readiness = backend.Readiness

// Event says that the source registered under Token is ready.
//
// Readable, Writable and Priority come only if they were asked for. Error,
// ReadClosed and WriteClosed come unasked, always together with those of
// Readable and Writable that were asked for: a program that reads when
// readable and writes when writable misses nothing. They are hints: not every
// kernel tells each of them (ReadClosed, for one, needs Readable on epoll),
// but what is told is so.
//
// An event is a hint as well: rarely, nothing is there when one looks (another
// process read it, a checksum was wrong). So use non-blocking operations.
type Event struct {
	Token Token
	Ready Readiness
}

// Readable reports that a read will not block: there is data, a connection to
// accept, the end of the stream, or an error to fetch. The events of sources
// without a descriptor, such as a Waker, and of a Process are Readable.
func (e Event) Readable() bool { return e.Ready&backend.ReadyReadable != 0 }

// Writable reports that a write will not block, or that an attempt to connect
// has ended, well or not.
func (e Event) Writable() bool { return e.Ready&backend.ReadyWritable != 0 }

// Priority reports urgent data.
func (e Event) Priority() bool { return e.Ready&backend.ReadyPriority != 0 }

// Error reports that an error is pending: the next read or write, or SO_ERROR,
// says which.
func (e Event) Error() bool { return e.Ready&backend.ReadyError != 0 }

// ReadClosed reports that nothing more will arrive after what is buffered: the
// peer closed, or shut down its sending half.
func (e Event) ReadClosed() bool { return e.Ready&backend.ReadyReadClosed != 0 }

// WriteClosed reports that nothing more can be sent.
func (e Event) WriteClosed() bool { return e.Ready&backend.ReadyWriteClosed != 0 }

// String is for people: "token 7: Readable|ReadClosed".
func (e Event) String() string { return fmt.Sprintf("token %d: %v", uint64(e.Token), e.Ready) }

// Events is the buffer that Poll fills, made once and used again for every
// Poll. It belongs to one goroutine at a time.
type Events struct {
	buf   []backend.Event // its length is the capacity
	n     int             // as many are filled
	batch uint64          // counts the Polls
	table *table          // of the Poll that filled it
}

// NewEvents returns a buffer for at most capacity events in one Poll. What does
// not fit comes with the next Poll; 64 to 1,024 suits most loops. A capacity
// below 1 counts as 1, and one above 1,048,576 as that.
func NewEvents(capacity int) *Events {
	return &Events{buf: make([]backend.Event, min(max(capacity, 1), 1<<20))}
}

// Cap returns how many events one Poll can deliver.
func (e *Events) Cap() int { return len(e.buf) }

// Len returns how many events the last Poll delivered. [Events.All] yields
// fewer when registrations were removed or replaced since.
func (e *Events) Len() int { return e.n }

// All yields the events of the last Poll. Those whose registration has been
// deregistered or reregistered meanwhile, also by an earlier turn of the same
// loop, are left out: a handler that closes other connections never sees an
// event of one it closed, even when its descriptor number is in use again.
//
// The loop may be left at any point, and All called again. A Poll into the same
// Events ends a loop that is under way.
func (e *Events) All() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		batch := e.batch
		for i := 0; i < e.n && e.batch == batch; i++ {
			ev := &e.buf[i]
			token, ok := e.table.token(ev.Key)
			if !ok {
				continue
			}
			if !yield(Event{token, ev.Ready}) {
				return
			}
		}
	}
}
