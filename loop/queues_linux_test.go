package loop_test

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/backend/iouring"
	"github.com/epore/epore/backend/kqueue"
	"github.com/epore/epore/backend/pollfd"
	"github.com/epore/epore/internal/kqsim"
)

// queueNames are in the order to test them in.
var queueNames = []string{"epoll", "io_uring", "pollfd"}

// queues are those of this system, by name; and kqueue, on simulated kernels.
var queues = map[string]func() backend.Backend{
	"epoll":    func() backend.Backend { return epoll.New() },
	"io_uring": func() backend.Backend { return iouring.New() },
	"pollfd":   func() backend.Backend { return pollfd.New() },
}

func init() {
	for _, p := range kqsim.Profiles {
		name := "kqueue, " + p.Name
		queueNames = append(queueNames, name)
		queues[name] = func() backend.Backend { return kqueue.NewOn(kqsim.New(p)) }
	}
}
