package epore

import (
	"fmt"
	"iter"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/slots"
)

// Token is the caller's identification of a registration, returned with its events: an
// index, an identifier, whatever fits into 64 bits. No value is reserved, and tokens need
// not differ.
//
// A token may be used again, for another source, as soon as Deregister or the Close of a
// socket of package socket has returned: no event of the old registration is delivered
// after that.
type Token uint64

// Interest says what to watch a source for and how to report it; see the constants. It
// contains at least one of Readable, Writable and Priority.
type Interest = backend.Interest

// The conditions to watch for, and the modes. A registration without a mode bit is
// level-triggered.
const (
	// Readable asks for data, for a connection to accept, and for the end of the
	// stream.
	Readable = backend.Readable
	// Writable asks for room to write, and for the end of a connection attempt.
	Writable = backend.Writable
	// Priority asks for urgent data: TCP's out-of-band byte (POLLPRI).
	Priority = backend.Priority

	// Edge reports a condition when it arises, rather than for as long as it lasts.
	// Read or write until the operation would block; only then is a further event
	// certain. poll(2) does not support it (errors.ErrUnsupported).
	Edge = backend.Edge
	// OneShot reports one event, for whichever condition comes first, and then nothing
	// until Reregister.
	OneShot = backend.OneShot
	// Exclusive applies to one source that is registered with several Polls of strategy
	// [Block]: an event wakes at least one of them, and not all (EPOLLEXCLUSIVE). With
	// [Park], it wakes at least one and possibly all; there, prefer one listener for each
	// Poll, with SO_REUSEPORT. Exclusive cannot be combined with OneShot or Priority. Only
	// epoll supports it (otherwise errors.ErrUnsupported).
	Exclusive = backend.Exclusive
)

// Readiness is the set of conditions in an [Event]; see the constants. Event's methods
// test it.
type Readiness = backend.Readiness

// The conditions that an event reports.
const (
	// ReadyReadable says that a read will not block.
	ReadyReadable = backend.ReadyReadable
	// ReadyWritable says that a write will not block.
	ReadyWritable = backend.ReadyWritable
	// ReadyPriority says that there is urgent data.
	ReadyPriority = backend.ReadyPriority
	// ReadyError says that an error is pending.
	ReadyError = backend.ReadyError
	// ReadyReadClosed says that nothing more will arrive after what is buffered.
	ReadyReadClosed = backend.ReadyReadClosed
	// ReadyWriteClosed says that nothing more can be sent.
	ReadyWriteClosed = backend.ReadyWriteClosed
)

// Capabilities describes what a queue supports on the system it runs on; see
// [Poll.Capabilities].
type Capabilities = backend.Capabilities

// Event reports that the source registered under Token is ready.
//
// Readable, Writable and Priority are reported only if they were asked for. Error,
// ReadClosed and WriteClosed are always reported, and always together with those of
// Readable and Writable that were asked for. So a program that reads when readable and
// writes when writable misses nothing. They are hints. Not every kernel reports each of
// them (ReadClosed, for one, needs Readable on epoll), but what is reported is true.
//
// An event as a whole is a hint as well. Rarely, the condition no longer holds when the
// program looks, because another process has read the data or a checksum was wrong. So use
// operations that do not block.
type Event struct {
	Token Token
	Ready Readiness
}

// Readable reports that a read will not block: there is data, a connection to accept, the
// end of the stream, or an error to fetch. Events of sources without a descriptor, such as
// a Waker, and events of a Process are Readable.
func (e Event) Readable() bool { return e.Ready&backend.ReadyReadable != 0 }

// Writable reports that a write will not block, or that a connection attempt has ended,
// successfully or not.
func (e Event) Writable() bool { return e.Ready&backend.ReadyWritable != 0 }

// Priority reports urgent data.
func (e Event) Priority() bool { return e.Ready&backend.ReadyPriority != 0 }

// Error reports that an error is pending. The next read or write, or SO_ERROR, returns it.
func (e Event) Error() bool { return e.Ready&backend.ReadyError != 0 }

// ReadClosed reports that nothing more will arrive after what is buffered: the peer closed
// the connection, or shut down its sending half.
func (e Event) ReadClosed() bool { return e.Ready&backend.ReadyReadClosed != 0 }

// WriteClosed reports that nothing more can be sent.
func (e Event) WriteClosed() bool { return e.Ready&backend.ReadyWriteClosed != 0 }

// String describes the event for people: "token 7: Readable|ReadClosed".
func (e Event) String() string { return fmt.Sprintf("token %d: %v", uint64(e.Token), e.Ready) }

// Events is the buffer that Poll fills. Create it once and use it for every Poll. It
// belongs to one goroutine at a time.
type Events struct {
	buf   []backend.Event // its length is the capacity
	n     int             // the number of events in it
	batch uint64          // counts the Polls
	slots *slots.Table    // of the Poll that filled it
}

// NewEvents returns a buffer for at most capacity events of one Poll. Events that do not
// fit come with the next Poll. A capacity of 64 to 1,024 suits most loops. NewEvents raises
// a capacity below 1 to 1, and lowers one above 1,048,576 to that.
func NewEvents(capacity int) *Events {
	return &Events{buf: make([]backend.Event, min(max(capacity, 1), 1<<20))}
}

// empty begins a new batch, of a Poll whose table is t.
func (e *Events) empty(t *slots.Table) {
	e.n, e.slots = 0, t
	e.batch++
}

// Cap returns the number of events that one Poll can deliver.
func (e *Events) Cap() int { return len(e.buf) }

// Len returns the number of events that the last Poll delivered. [Events.All] yields fewer
// if registrations have been removed or replaced since.
func (e *Events) Len() int { return e.n }

// All yields the events of the last Poll. It leaves out events whose registration has been
// deregistered or reregistered since, even by an earlier iteration of the same loop. So a
// handler that closes other connections never sees an event of one that it has closed, even
// if the descriptor number is in use again.
//
// Handle each event when it is yielded. A program that first collects the events and handles
// them later loses this guarantee: it may handle stale ones.
//
// The loop may be left at any point, and All may be called again. A Poll into the same
// Events ends a loop that is in progress.
func (e *Events) All() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		batch := e.batch
		for i := 0; i < e.n && e.batch == batch; i++ {
			ev := &e.buf[i]
			token, ok := e.slots.Token(ev.Key)
			if !ok {
				continue
			}
			if !yield(Event{Token(token), ev.Ready}) {
				return
			}
		}
	}
}
