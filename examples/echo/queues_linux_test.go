package main

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/backend/iouring"
	"github.com/epore/epore/backend/kqueue"
	"github.com/epore/epore/backend/pollfd"
	"github.com/epore/epore/internal/kqsim"
)

// All queues of this system, and kqueue on simulated kernels.
func init() {
	queues["epoll"] = func() backend.Backend { return epoll.New() }
	queues["io_uring"] = func() backend.Backend { return iouring.New() }
	queues["pollfd"] = func() backend.Backend { return pollfd.New() }
	for _, p := range kqsim.Profiles {
		queues["kqueue, "+p.Name] = func() backend.Backend { return kqueue.NewOn(kqsim.New(p)) }
	}
}
