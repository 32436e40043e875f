//go:build unix && !linux

package epore_test

import (
	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/kqueue"
	"github.com/epore/epore/backend/pollfd"
)

// envQueue is for systems with several.
const envQueue = "EPORE_QUEUE"

// queueNames is the order to compare them in.
var queueNames = []string{"kqueue", "pollfd"}

// queues are those of this system, by name.
var queues = map[string]func() backend.Backend{
	"kqueue": func() backend.Backend { return kqueue.New() },
	"pollfd": func() backend.Backend { return pollfd.New() },
}

// openQueue is New: there is one queue on this system.
func openQueue(opts ...epore.Option) (*epore.Poll, error) { return epore.New(opts...) }

func openBare(opts ...epore.Option) (*epore.Poll, error) { return epore.New(opts...) }
