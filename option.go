package epore

import (
	"github.com/hashicorp/go-hclog"

	"github.com/epore/epore/internal/nilvalue"
)

// Strategy is how a Poll waits when nothing is ready.
type Strategy uint8

const (
	// Park parks the goroutine on the Go runtime's poller, as package net does, if the
	// queue is a descriptor that the runtime can watch (epoll). The waiting Poll
	// then holds no thread. Waits of less than 2 ms block in the kernel all the same,
	// because the runtime's timers round to the millisecond. Where the platform cannot
	// park, Park means Block. Park is the default.
	//
	// When computing goroutines keep every processor busy, a parked Poll notices an event
	// as late as package net does: when the scheduler looks, about every 10 ms.
	Park Strategy = iota
	// Block waits in the kernel on the calling thread. It is for a goroutine that is locked
	// to its thread (runtime.LockOSThread) and must react at once while other goroutines
	// keep the processors busy, and for Exclusive.
	Block
)

// String returns "Park" or "Block".
func (s Strategy) String() string {
	if s == Block {
		return "Block"
	}
	return "Park"
}

// Option is an argument of New.
type Option func(*options)

type options struct {
	strategy Strategy
	log      hclog.Logger
}

// WithStrategy chooses how the Poll waits. The default is Park.
func WithStrategy(s Strategy) Option {
	return func(o *options) { o.strategy = s }
}

// WithLogger sets a logger. It receives debug lines about opening and closing, trace lines
// about registrations, one warning when a Poll is garbage collected without having been
// closed, and one when a Poll cannot park because the system refuses it; in that case the
// Poll blocks and tries again, and an info line says when it parks again. Otherwise waiting
// is never logged. Without a logger, or with nil, nothing is logged and logging costs
// nothing. New reads the logger's level once.
func WithLogger(l hclog.Logger) Option {
	if nilvalue.Is(l) {
		l = nil
	}
	return func(o *options) { o.log = l }
}
