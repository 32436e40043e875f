//go:build linux

package epoll

import (
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
	"github.com/epore/epore/backend/internal/posix"
)

var _ backend.Inspector = (*Epoll)(nil)

// Inspect implements [backend.Inspector]. EPOLL_CTL_ADD and EPOLL_CTL_MOD poll the file, and
// epoll_wait polls it again before it reports an event. So does every poll of the epoll
// itself.
func (e *Epoll) Inspect(h backend.Handle, in backend.Interest) (once bool, ready backend.Readiness) {
	if once, errno := linux.Consumed(h); !once || errno != 0 {
		return false, 0
	}
	fds := []unix.PollFd{{Fd: int32(h), Events: int16(posix.Bits(in))}}
	if n, err := unix.Poll(fds, 0); err == nil && n > 0 {
		ready = posix.Readiness(uint32(uint16(fds[0].Revents)))
	}
	return true, ready
}
