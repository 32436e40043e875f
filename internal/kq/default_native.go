//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package kq

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/unixfd"
)

func init() { newNative = func() Kernel { return new(native) } }

// native is the kqueue of the system.
//
// Most systems declare the udata of a kevent as a pointer. A pointer that the garbage
// collector can see must not hold a number. So kevents are stored in memory without
// pointers, and udata is written and read as a number.
type native struct {
	events []uint64 // the kevents that the waiting goroutine receives
}

// Kqueue implements [Kernel]. A child that fork creates does not inherit a kqueue. There
// is no flag that closes it on exec, so it is set afterwards, under the lock that keeps
// package os from starting programs in between.
func (*native) Kqueue() (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Kqueue()
	if err == nil {
		unix.CloseOnExec(fd)
	}
	return fd, err
}

const (
	// keventWords is the size of a kevent in 64-bit words.
	keventWords = (unsafe.Sizeof(unix.Kevent_t{}) + 7) / 8
	// maxChanges is how many changes one call can have: all knotes of a descriptor are
	// deleted and added again.
	maxChanges = 6
)

// Kevent implements [Kernel].
func (n *native) Kevent(fd int, changes, events []Event, timeout time.Duration) (int, error) {
	var buf [maxChanges * keventWords]uint64
	in := kevents(buf[:], len(changes))
	for i := range changes {
		c, k := &changes[i], &in[i]
		unix.SetKevent(k, int(c.Ident), int(c.Filter), int(c.Flags))
		k.Fflags = c.Fflags
		*(*uintptr)(unsafe.Pointer(&k.Udata)) = uintptr(c.Udata)
	}
	var out []unix.Kevent_t
	if len(events) > 0 {
		if need := len(events) * int(keventWords); need > len(n.events) {
			n.events = make([]uint64, need)
		}
		out = kevents(n.events, len(events))
	}
	var ts *unix.Timespec // nil waits indefinitely
	if timeout >= 0 {
		t := unix.NsecToTimespec(int64(timeout))
		ts = &t
	}
	got, err := unix.Kevent(fd, in, out, ts)
	if err != nil {
		return 0, err
	}
	for i := range out[:got] {
		k := &out[i]
		events[i] = Event{
			Ident: uint64(k.Ident), Filter: int32(k.Filter), Flags: uint32(k.Flags), Fflags: k.Fflags,
			Data: int64(k.Data), Udata: uint32(*(*uintptr)(unsafe.Pointer(&k.Udata))),
		}
	}
	return got, nil
}

// kevents returns memory as n kevents.
func kevents(memory []uint64, n int) []unix.Kevent_t {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*unix.Kevent_t)(unsafe.Pointer(&memory[:n*int(keventWords)][0])), n)
}

// Close implements [Kernel].
func (*native) Close(fd int) error { return unixfd.Close(fd) }

// System implements [Kernel].
func (*native) System() System { return system }
