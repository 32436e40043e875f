//go:build !portable

package socket

import (
	"errors"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Datagrams of one size to one address go through the kernel as one, which it cuts into
// segments at the end (UDP_SEGMENT, generic segmentation offload): that is where most of the
// cost of a small datagram is. What arrives is the same.

const (
	// maxSegment is the size up to which that is tried: what every IPv6 network takes. The
	// kernel refuses segments that the network would have to fragment.
	maxSegment = 1280 - 48
	// maxSegmented is what all segments have together: a datagram is still the limit.
	maxSegmented = 60_000
)

// segmentSize is the control data that says how to cut.
type segmentSize struct {
	unix.Cmsghdr
	size uint16
	_    [6]byte
}

// set fills it in, and returns it as a Msghdr takes it.
func (s *segmentSize) set(size int) *byte {
	s.Level, s.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	s.SetLen(unix.CmsgLen(2))
	s.size = uint16(size)
	return (*byte)(unsafe.Pointer(s))
}

// segmentsOf returns how many messages, from the first one on, can go as segments: all of
// one size, except that the last one may be smaller.
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

// hasSegments reports whether a socket takes segmentSize: the kernel knows it, the socket is
// one of UDP, and its owner has not set a size for all that it sends. Older kernels ignore
// what they do not know, and would send one large datagram.
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

// segmentsWork reports whether the kernel is 5.0 or later: it came with 4.18, and was mended
// until then.
var segmentsWork = sync.OnceValue(func() bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	return name.Release[0] >= '5' || name.Release[1] != '.'
})

// isUnsegmentable reports whether an error may be about the segments: a device without
// checksums, an encrypted path, a path for smaller ones.
func isUnsegmentable(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.EOPNOTSUPP)
}
