//go:build unix && !linux

package queuetest

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/kqueue"
	"github.com/epore/epore/backend/pollfd"
)

var all = []Queue{
	{"kqueue", func() backend.Backend { return kqueue.New() }},
	{"pollfd", func() backend.Backend { return pollfd.New() }},
}
