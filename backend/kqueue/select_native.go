//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package kqueue

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/kq"
)

func init() { newNative = func() kq.Kernel { return new(native) } }

// native is the kernel's own kqueue.
//
// Most systems declare the word of the caller's in a kevent as a pointer, which must
// not hold a number where the garbage collector looks. So kevents are memory without
// pointers here, and the word is written and read as a number.
type native struct {
	events []uint64 // of the one that waits
}

// Kqueue implements [kq.Kernel]. A kqueue is not inherited by fork; that programs
// which are started do not get it either is made sure of by hand, and by the lock.
func (*native) Kqueue() (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Kqueue()
	if err == nil {
		unix.CloseOnExec(fd)
	}
	return fd, err
}

// words is the size of a kevent; most are how many changes come at once.
const (
	words = (unsafe.Sizeof(unix.Kevent_t{}) + 7) / 8
	most  = 6
)

// Kevent implements [kq.Kernel].
func (n *native) Kevent(fd int, changes, events []kq.Event, timeout time.Duration) (int, error) {
	var buf [most * words]uint64
	in := kevents(buf[:], len(changes))
	for i := range changes {
		c, k := &changes[i], &in[i]
		unix.SetKevent(k, int(c.Ident), int(c.Filter), int(c.Flags))
		k.Fflags = c.Fflags
		*(*uintptr)(unsafe.Pointer(&k.Udata)) = uintptr(c.Udata)
	}
	var out []unix.Kevent_t
	if len(events) > 0 {
		if need := len(events) * int(words); need > len(n.events) {
			n.events = make([]uint64, need)
		}
		out = kevents(n.events, len(events))
	}
	var ts *unix.Timespec // none: for ever
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
		events[i] = kq.Event{
			Ident: uint64(k.Ident), Filter: int32(k.Filter), Flags: uint32(k.Flags), Fflags: k.Fflags,
			Data: int64(k.Data), Udata: uint32(*(*uintptr)(unsafe.Pointer(&k.Udata))),
		}
	}
	return got, nil
}

// kevents looks at memory as n kevents.
func kevents(memory []uint64, n int) []unix.Kevent_t {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*unix.Kevent_t)(unsafe.Pointer(&memory[:n*int(words)][0])), n)
}

// Close implements [kq.Kernel].
func (*native) Close(fd int) error { return unix.Close(fd) }

// System implements [kq.Kernel].
func (*native) System() kq.System { return system }
