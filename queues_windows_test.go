package epore_test

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/iocp"
)

// queueNames is the order to compare them in.
var queueNames = []string{"iocp"}

// queues are those of this system, by name.
var queues = map[string]func() backend.Backend{
	"iocp": func() backend.Backend { return iocp.New() },
}
