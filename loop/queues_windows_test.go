package loop_test

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/iocp"
)

// queueNames are in the order to test them in.
var queueNames = []string{"iocp"}

// queues are those of this system, by name.
var queues = map[string]func() backend.Backend{
	"iocp": func() backend.Backend { return iocp.New() },
}
