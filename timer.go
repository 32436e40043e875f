package epore

import (
	"fmt"
	"io/fs"
	"time"

	"github.com/epore/epore/internal/slots"
	"github.com/epore/epore/internal/timerheap"
)

// Timer gives an event with its token at a point in time, or one after every period. It
// needs neither a descriptor nor a goroutine. A Poll may have any number of Timers;
// hundreds of thousands are no burden. All methods may be called from any goroutine.
//
// A Timer uses the monotonic clock of package time. Setting the wall clock has no effect,
// and on most systems time stands still while the machine is suspended. An event is never
// early. It may be late by as much as a Poll with a timeout may return late.
//
// In a testing/synctest bubble a Timer uses the bubble's clock. Create the Poll, set its
// Timers and call Poll in the same bubble.
//
// Expired timers come in the order of their deadlines. Timers that expire while no
// goroutine polls come with the next Poll, even if that has a timeout of zero.
type Timer struct {
	poll  *Poll
	timer timerheap.Timer
}

// NewTimer returns a Timer of the Poll of r, whose events carry token. The Timer is not
// set. NewTimer fails with ErrClosed when r or the Poll is closed. Closing r later does
// not affect the Timer.
func NewTimer(r *Registry, token Token) (*Timer, error) {
	err := r.usable()
	if err == nil {
		key, keyErr := r.poll.newLocal(localTimer, token)
		if keyErr == nil {
			t := &Timer{poll: r.poll}
			r.poll.timers.Add(&t.timer, key)
			return t, nil
		}
		err = keyErr
	}
	return nil, &OpError{"register", "a Timer", err}
}

// Reset sets the timer to give one event, readable, after d. If d is zero or negative, the
// event comes with the next Poll. Reset replaces the earlier setting. An event of the
// earlier setting is no longer delivered, not even one that is in the current batch.
//
// Reset wakes a waiting Poll that would sleep beyond the new time. It fails with
// ErrClosed when the Timer or its Poll is closed.
func (t *Timer) Reset(d time.Duration) error {
	return t.set(timerheap.Plus(now(), d), 0)
}

// ResetAt is like Reset with a point in time. If at has no reading of the monotonic
// clock (see package time), it is converted during the call; later changes of the wall
// clock do not count.
func (t *Timer) ResetAt(at time.Time) error {
	n := time.Now() // read once, or at would not be exact to the nanosecond
	return t.set(timerheap.Plus(n.Sub(start), at.Sub(n)), 0)
}

// Every is like Reset, with a further event after each further d, until the timer is
// stopped or set again. These times are exact multiples of d: one late event does not
// delay the others. Times that pass while no goroutine polls give one event together;
// [Timer.Ticks] counts them.
//
// Every fails with fs.ErrInvalid if d is zero or negative.
func (t *Timer) Every(d time.Duration) error {
	if d <= 0 {
		return &OpError{"reset", "a Timer", fmt.Errorf("period %v is not positive: %w", d, fs.ErrInvalid)}
	}
	return t.set(timerheap.Plus(now(), d), d)
}

func (t *Timer) set(when, period time.Duration) error {
	if err := t.trySet(when, period); err != nil {
		return &OpError{"reset", "a Timer", err}
	}
	return nil
}

func (t *Timer) trySet(when, period time.Duration) error {
	switch {
	case t.poll == nil:
		return errZeroValue
	case t.poll.closed.Load():
		return ErrClosed
	}
	earliest, ok := t.poll.timers.Set(&t.timer, when, period)
	switch {
	case !ok:
		return ErrClosed
	case earliest:
		return t.poll.shorten(when)
	}
	return nil
}

// Stop stops the timer and reports whether that prevented an event (for Every, a further
// one). Once Stop has returned, no event of the earlier setting is delivered: neither by a
// later Poll nor from the current batch. So true means that the event was not delivered and
// never will be. False means that the loop has already been given the event, or the timer
// was not set, or the Timer or its Poll is closed. (An event that was left in a batch when
// the next Poll began counts as not delivered.)
func (t *Timer) Stop() bool {
	if t.poll == nil {
		return false
	}
	return t.poll.timers.Stop(&t.timer) && !t.poll.closed.Load()
}

// Ticks returns how many times the timer has expired since it was set or since the last
// call of Ticks. It counts expirations that gave an event and those that coalesced with
// them. In the loop, when handling an event of Every, it is 1, or more if ticks were
// missed.
func (t *Timer) Ticks() uint64 {
	if t.poll == nil {
		return 0
	}
	return t.poll.timers.TakeTicks(&t.timer)
}

// Close removes the Timer. Its event is no longer delivered, not even one that is in the
// current batch. Closing again does nothing.
func (t *Timer) Close() error {
	if t.poll == nil {
		return &OpError{"close", "a Timer", errZeroValue}
	}
	table := &t.poll.slots
	table.Lock()
	defer table.Unlock()
	if key, first := t.poll.timers.Close(&t.timer); first {
		table.Remove(slots.Index(key))
	}
	return nil
}
