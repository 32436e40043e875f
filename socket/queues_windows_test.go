package socket_test

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/iocp"
)

// queueNames lists the queues in the order of the tests.
var queueNames = []string{"iocp"}

// queues creates the queues of this system by name.
var queues = map[string]func() backend.Backend{
	"iocp": func() backend.Backend { return iocp.New() },
}
