//go:build windows

package iocp

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// The structures that the kernel reads and writes have the layout of their C
// counterparts, on each architecture.
func TestLayout_MatchesC(t *testing.T) {
	word := unsafe.Sizeof(uintptr(0))
	wide := word == 8
	pick := func(bits64, bits32 uintptr) uintptr {
		if wide {
			return bits64
		}
		return bits32
	}
	for _, row := range []struct {
		what      string
		got, want uintptr
	}{
		{"AFD_POLL_HANDLE_INFO", unsafe.Sizeof(afdPollHandle{}), pick(16, 12)},
		{"AFD_POLL_HANDLE_INFO.Handle", unsafe.Offsetof(afdPollHandle{}.handle), 0},
		{"AFD_POLL_HANDLE_INFO.PollEvents", unsafe.Offsetof(afdPollHandle{}.events), word},
		{"AFD_POLL_HANDLE_INFO.Status", unsafe.Offsetof(afdPollHandle{}.status), word + 4},
		{"AFD_POLL_INFO", afdPollSize, 32},
		{"AFD_POLL_INFO.Timeout", unsafe.Offsetof(afdPoll{}.timeout), 0},
		{"AFD_POLL_INFO.NumberOfHandles", unsafe.Offsetof(afdPoll{}.count), 8},
		{"AFD_POLL_INFO.Exclusive", unsafe.Offsetof(afdPoll{}.exclusive), 12},
		{"AFD_POLL_INFO.Handles", unsafe.Offsetof(afdPoll{}.socket), 16},
		{"IO_STATUS_BLOCK", unsafe.Sizeof(statusBlock{}), 2 * word},
		{"IO_STATUS_BLOCK.Information", unsafe.Offsetof(statusBlock{}.information), word},
		{"OVERLAPPED_ENTRY", unsafe.Sizeof(packet{}), pick(32, 16)},
		{"OVERLAPPED_ENTRY.lpOverlapped", unsafe.Offsetof(packet{}.context), word},
		{"OVERLAPPED_ENTRY.Internal", unsafe.Offsetof(packet{}.internal), 2 * word},
		{"OVERLAPPED_ENTRY.dwNumberOfBytesTransferred", unsafe.Offsetof(packet{}.bytes), 3 * word},
		{"slot", unsafe.Sizeof(slot{}), slotSize},
		{"slot.poll", unsafe.Offsetof(slot{}.poll) % 8, 0},
	} {
		require.Equal(t, row.want, row.got, row.what)
	}
}

// The same for architectures that the tests do not run on: with a wrong layout an index
// is out of range, and this does not compile.
const wide = unsafe.Sizeof(uintptr(0)) / 8 // 0 or 1

var (
	_ = [1]struct{}{}[unsafe.Sizeof(afdPollHandle{})-(12+4*wide)]
	_ = [1]struct{}{}[unsafe.Offsetof(afdPoll{}.socket)-16]
	_ = [1]struct{}{}[afdPollSize-32]
	_ = [1]struct{}{}[unsafe.Sizeof(statusBlock{})-(8+8*wide)]
	_ = [1]struct{}{}[unsafe.Sizeof(packet{})-(16+16*wide)]
	_ = [1]struct{}{}[unsafe.Offsetof(packet{}.bytes)-(12+12*wide)]
	_ = [1]struct{}{}[unsafe.Sizeof(slot{})-slotSize]
)
