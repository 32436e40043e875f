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
func (e *Epoll) Inspect(h backend.Handle, k backend.Key, in backend.Interest) (once bool, ready backend.Readiness) {
	if once, errno := linux.Consumed(h); !once || errno != 0 {
		return false, 0
	}
	bits, err := kernelBits(in)
	if err != nil {
		return false, 0
	}
	fds := []unix.PollFd{{Fd: int32(h), Events: int16(posix.Bits(in))}}
	if n, err := unix.Poll(fds, 0); err == nil && n > 0 {
		ready = posix.Readiness(uint32(uint16(fds[0].Revents)))
	}
	// The descriptor may have been closed, and its number reused. The kernel knows.
	switch errno := e.ctl(unix.EPOLL_CTL_MOD, h, bits, k); errno {
	case 0, unix.EINVAL: // as for Exclusive
		return true, ready
	}
	return false, 0
}
