//go:build unix && !linux

package socket_test

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/kqueue"
	"github.com/epore/epore/backend/pollfd"
)

// queueNames lists the queues in the order of the tests.
var queueNames = []string{"kqueue", "pollfd"}

// queues creates the queues of this system by name.
var queues = map[string]func() backend.Backend{
	"kqueue": func() backend.Backend { return kqueue.New() },
	"pollfd": func() backend.Backend { return pollfd.New() },
}
