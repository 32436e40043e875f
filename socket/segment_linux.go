//go:build !portable

package socket

import (
	"errors"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Datagrams of the same size to the same address pass through the kernel as one, which it
// cuts into segments at the end (UDP_SEGMENT, generic segmentation offload). The path through
// the kernel is most of the cost of a small datagram. The receiver sees no difference.

const (
	// maxSegment is the maximum size of a segment: what every IPv6 network transports. The
	// kernel refuses segments that the network would have to fragment.
	maxSegment = 1280 - 48
	// maxSegmented is the maximum size of all segments together, below that of a datagram.
	maxSegmented = 60_000
)

// segmentSize is the control data with the size of a segment.
type segmentSize struct {
	unix.Cmsghdr
	size uint16
	_    [6]byte
}

// set fills it in, and returns it as a Msghdr needs it.
func (s *segmentSize) set(size int) *byte {
	s.Level, s.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	s.SetLen(unix.CmsgLen(2))
	s.size = uint16(size)
	return (*byte)(unsafe.Pointer(s))
}

// segmentsOf returns how many messages, from the first one on, can be sent as segments: they
// have the same size, except that the last one may be smaller.
func segmentsOf(ms []Message) int {
	first, total := &ms[0], 0
	size := len(first.Data)
	for i := range ms {
		m := &ms[i]
		total += len(m.Data)
		switch {
		case size > maxSegment, total > maxSegmented, len(m.Data) == 0, len(m.Data) > size,
			len(m.Control) > 0, m.Addr != first.Addr:
			return max(i, 1)
		case len(m.Data) < size:
			return i + 1
		}
	}
	return len(ms)
}

// hasSegments reports whether segmentSize can be used with a socket: the kernel knows it, the
// socket is a UDP socket, and the program has not set a size for the whole socket. Older
// kernels ignore control data that they do not know, and would send one large datagram.
func hasSegments(h handle) bool {
	if !segmentsWork() {
		return false
	}
	var size int32
	length := uint32(unsafe.Sizeof(size))
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(h), unix.SOL_UDP, unix.UDP_SEGMENT,
		uintptr(unsafe.Pointer(&size)), uintptr(unsafe.Pointer(&length)), 0)
	return errno == 0 && size == 0
}

// segmentsWork reports whether the kernel is 5.0 or later. UDP_SEGMENT exists since 4.18, and
// had defects until then.
var segmentsWork = sync.OnceValue(func() bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	return name.Release[0] >= '5' || name.Release[1] != '.'
})

// isUnsegmentable reports whether the segments may be the cause of an error: a device without
// checksums, an encrypted path, or a path for smaller packets.
func isUnsegmentable(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.EOPNOTSUPP)
}
