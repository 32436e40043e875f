package socket

import "golang.org/x/sys/unix"

// dropQueuedErrors empties the error queue of a socket (recvmsg with MSG_ERRQUEUE, ip(7)),
// unless the program has asked for the queue with an option.
//
// An ICMP error that answers the first SYN stays in that queue, even if a later SYN succeeds.
// Neither reads and writes nor SO_ERROR report it, but the kernel reports EPOLLERR for as long
// as the queue is not empty, so every level-triggered Poll would return at once.
func dropQueuedErrors(h handle) {
	fd := int(h)
	fds := []unix.PollFd{{Fd: int32(fd)}}
	if n, err := unix.Poll(fds, 0); n <= 0 || err != nil || fds[0].Revents&unix.POLLERR == 0 {
		return
	}
	for _, option := range [][2]int{
		{unix.SOL_IP, unix.IP_RECVERR}, {unix.SOL_IPV6, unix.IPV6_RECVERR},
		{unix.SOL_SOCKET, unix.SO_TIMESTAMPING}, {unix.SOL_SOCKET, unix.SO_ZEROCOPY},
	} {
		if value, err := unix.GetsockoptInt(fd, option[0], option[1]); err == nil && value != 0 {
			return // the program reads the queue
		}
	}
	for range maxQueuedErrors {
		if _, _, _, _, err := unix.Recvmsg(fd, nil, nil, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); err != nil && err != unix.EINTR {
			return
		}
	}
}

// maxQueuedErrors bounds the loop, in case errors arrive as fast as it drops them.
const maxQueuedErrors = 1000
