package epore

import (
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/epore/epore/backend"
)

// Timer gives an event with its token at a point in time, or one after every
// period, without a descriptor or a goroutine. A Poll may have any number of them;
// hundreds of thousands are no burden. All methods may be called from any goroutine.
//
// Time is that of the monotonic clock of package time: setting the wall clock has
// no effect, and on most systems time stands still while the machine is suspended.
// An event is never early. It is late by what a Poll with a timeout is late.
//
// Expired timers come in the order of their deadlines. Those that expire while
// nobody polls come with the next Poll; also with a timeout of zero.
type Timer struct {
	poll *Poll

	// What follows is under timers.mu.

	key    backend.Key
	when   time.Duration // when it expires; unset
	queued time.Duration // the time of its entry in the heap, not after when; unset: none
	period time.Duration // of Every; else 0
	ticks  uint64
	out    bool // an event of key has left the heap
	closed bool
}

// unset is no time: a timer may be set to any other one.
const unset time.Duration = math.MinInt64

// NewTimer returns a Timer of the Poll of r, whose events carry token. It is not
// set. It fails with ErrClosed when r or the Poll is closed. Closing r later does
// not concern the Timer.
func NewTimer(r *Registry, token Token) (*Timer, error) {
	err := r.usable()
	if err == nil {
		t := &Timer{poll: r.poll, when: unset, queued: unset}
		if t.key, err = r.poll.newPoster(token); err == nil {
			t.poll.table.takeNotes(t.key)
			return t, nil
		}
	}
	return nil, &OpError{"register", "a Timer", err}
}

// Reset sets the timer to give one event, readable, after d. Zero and less is at
// once: with the next Poll. What it was set to before no longer counts, and an
// event of that is no longer delivered, not even one that is in the batch in hand.
//
// A Poll in progress that would sleep beyond that time is told. Reset fails with
// ErrClosed when the Timer or its Poll is closed.
func (t *Timer) Reset(d time.Duration) error {
	return t.set(plus(now(), d), 0)
}

// ResetAt is Reset with a point in time. If at has no reading of the monotonic
// clock (see package time), it is converted at the call: changes of the wall clock
// after that do not count.
func (t *Timer) ResetAt(at time.Time) error {
	n := time.Now() // one reading, or at would not be kept to the nanosecond
	return t.set(plus(n.Sub(start), at.Sub(n)), 0)
}

// Every is Reset with an event after each further d, too, until the timer is stopped
// or set anew. These times are exact multiples: being late once does not
// delay the others. Times that went by while nobody polled give one event together;
// [Timer.Ticks] counts them.
//
// A d of zero or less fails with fs.ErrInvalid.
func (t *Timer) Every(d time.Duration) error {
	if d <= 0 {
		return &OpError{"reset", "a Timer", fmt.Errorf("a period of %v is none: %w", d, fs.ErrInvalid)}
	}
	return t.set(plus(now(), d), d)
}

func (t *Timer) set(when, period time.Duration) error {
	var err error
	switch {
	case t.poll == nil:
		err = errMadeByHand
	case t.poll.closed.Load():
		err = ErrClosed
	default:
		err = t.poll.timers.set(t, when, period)
	}
	if err != nil {
		return &OpError{"reset", "a Timer", err}
	}
	return nil
}

// Stop ends what the timer was set to, and says whether that makes a difference:
// whether there would have been an event (of Every: another one). After it has
// returned there is none: not from a later Poll, nor from the batch in hand. So
// true means: its event has not been seen, and never will be; and false: the loop
// has already been given it, or the timer was not set, or it or its Poll is closed.
// (An event that was left in a batch when the next Poll began counts as not seen.)
func (t *Timer) Stop() bool {
	if t.poll == nil {
		return false
	}
	return t.poll.timers.stop(t) && !t.poll.closed.Load()
}

// Ticks returns how many times the timer expired since it was set or since the
// last call of Ticks. It counts expirations that gave an event, and those that
// coalesced with them: in the loop, when handling an event of Every, it is 1, and
// more if ticks were missed.
func (t *Timer) Ticks() uint64 {
	if t.poll == nil {
		return 0
	}
	q := &t.poll.timers
	q.mu.Lock()
	defer q.mu.Unlock()
	n := t.ticks
	t.ticks = 0
	return n
}

// Close removes the Timer: its event is no longer delivered, not even one that is
// in the batch in hand. Closing again does nothing.
func (t *Timer) Close() error {
	if t.poll == nil {
		return &OpError{"close", "a Timer", errMadeByHand}
	}
	table := &t.poll.table
	table.mu.Lock()
	defer table.mu.Unlock()
	if t.poll.timers.close(t) {
		table.remove(keyIndex(t.key))
	}
	return nil
}

// plus adds to a point in time, now or in the future. What is beyond the clock's range is
// never; what is more than a lifetime before its beginning, is that: from there one can
// still tell how long ago it is.
func plus(t, d time.Duration) time.Duration {
	if d > 0 && t > never-d {
		return never
	}
	return max(t+d, unset/2)
}
