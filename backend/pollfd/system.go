//go:build unix

package pollfd

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend/internal/posix"
)

// posixSystem uses what every Unix has.
var posixSystem = system{
	resolution: time.Millisecond,
	poll: func(fds []unix.PollFd, timeout time.Duration) (int, error) {
		return unix.Poll(fds, int(posix.Milliseconds(timeout)))
	},
	newIdentities: func() identities { return statIdentities{} },
}
