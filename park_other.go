//go:build !linux

package epore

import (
	"sync/atomic"
	"time"

	"github.com/epore/epore/backend"
	"github.com/hashicorp/go-hclog"
)

// parker has no use here: the runtime's poller can watch no queue of this system.
type parker struct {
	unusable atomic.Bool
	retryAt  time.Duration
}

func newParker(backend.Backend, hclog.Logger, func(*Events) (bool, error)) (*parker, error) {
	return nil, nil
}

func (*parker) prepare(deadline, left time.Duration) bool { return false }
func (*parker) park(*Events) (slept bool, err error)      { return false, nil }
func (*parker) detach()                                   {}
func (*parker) wake()                                     {}
func (*parker) close() error                              { return nil }
