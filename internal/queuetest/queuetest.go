// Package queuetest lists the event queues of this system, for tests that run on each of
// them.
package queuetest

import (
	"os"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
)

// Queue is one kind of event queue that this system has, or simulates.
type Queue struct {
	Name string
	New  func() backend.Backend // it is not open; opening it may fail with errors.ErrUnsupported
}

// Env is the environment variable that names the queue on which tests run, if that is not
// the queue of epore.New.
const Env = "EPORE_QUEUE"

// All returns the queues, in the order in which they are compared.
func All() []Queue { return all }

// Named returns the queue with the given name, or nil if there is none.
func Named(name string) *Queue {
	for i := range all {
		if all[i].Name == name {
			return &all[i]
		}
	}
	return nil
}

// OpenBare opens a Poll on the queue on which tests run.
func OpenBare(opts ...epore.Option) (*epore.Poll, error) {
	if name := os.Getenv(Env); name != "" {
		return epore.NewWith(Named(name).New(), opts...)
	}
	return epore.New(opts...)
}

// Open is like OpenBare, but any goroutine may poll: a queue that belongs to one thread
// gets a thread of its own.
func Open(opts ...epore.Option) (*epore.Poll, error) {
	p, err := OpenBare(opts...)
	if err != nil || !p.Capabilities().OneThread {
		return p, err
	}
	if err := p.Close(); err != nil {
		return nil, err
	}
	return epore.NewWith(onThread(p.Backend()), opts...)
}
