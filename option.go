package epore

import "github.com/hashicorp/go-hclog"

// Strategy is how a Poll waits when nothing is ready.
type Strategy uint8

const (
	// Park, the default, parks the goroutine on the Go runtime's own poller, as
	// package net does, where the queue is a descriptor (epoll, io_uring); the
	// waiting Poll holds no thread. Waits under 2 ms block in the kernel all the same,
	// since the runtime's timers round to the millisecond. Where the platform
	// cannot park, Park is Block.
	//
	// When every processor is busy with computing goroutines, a parked Poll
	// notices an event as late as package net does: when the scheduler looks,
	// about every 10 ms.
	Park Strategy = iota
	// Block waits in the kernel, on the calling thread. It is for a goroutine
	// locked to its thread (runtime.LockOSThread) that must react at once beside
	// saturating computation, and for Exclusive. An io_uring then belongs to that
	// thread (Capabilities().OneThread), and a Poll on another one fails with
	// ErrWrongThread.
	Block
)

// String returns "Park" or "Block".
func (s Strategy) String() string {
	if s == Block {
		return "Block"
	}
	return "Park"
}

// Option is an argument to New.
type Option func(*options)

type options struct {
	strategy Strategy
	log      hclog.Logger
}

// WithStrategy chooses how the Poll waits; without it, Park.
func WithStrategy(s Strategy) Option {
	return func(o *options) { o.strategy = s }
}

// WithLogger hands in a logger for debug lines about opening and closing and
// trace lines about registration. Waiting is never logged. Without it, or with
// nil, nothing is logged and nothing is spent on it. The level is looked at
// once, by New.
func WithLogger(l hclog.Logger) Option {
	return func(o *options) { o.log = l }
}
