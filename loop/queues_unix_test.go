//go:build unix && !linux

package loop_test

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/kqueue"
	"github.com/epore/epore/backend/pollfd"
)

// queueNames are in the order to test them in.
var queueNames = []string{"kqueue", "pollfd"}

// queues are those of this system, by name.
var queues = map[string]func() backend.Backend{
	"kqueue": func() backend.Backend { return kqueue.New() },
	"pollfd": func() backend.Backend { return pollfd.New() },
}
