//go:build unix

package pollfd

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend/internal/posix"
)

// posixSystem uses what every Unix has.
var posixSystem = system{
	resolution:    time.Millisecond,
	newCaller:     func() caller { return posixCaller{} },
	newIdentities: func() identities { return statIdentities{identify} },
}

// posixCaller calls poll(2) with a timeout in milliseconds.
type posixCaller struct{}

func (posixCaller) poll(array []unix.PollFd, timeout time.Duration) (int, error) {
	return unix.Poll(array, int(posix.Milliseconds(timeout)))
}

func (posixCaller) close() error { return nil }
