//go:build linux

package iouring

import (
	"math/bits"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/android"
	"github.com/epore/epore/internal/unixfd"
)

// ring is an io_uring: two rings in memory shared with the kernel. We fill the
// submission queue and move its tail, the kernel moves its head; with the
// completion queue it is the other way round. An entry belongs to the side that
// has not yet moved past it, so each side writes entries before it stores its
// index, and loads the other's index before it reads entries: acquire and
// release, which Go's atomics are (and more).
//
// It knows nothing of readiness and has no lock: its user has.
type ring struct {
	fd       int
	features uint32

	sqHead, sqTail, sqFlags *uint32
	sqMask, sqEntries       uint32
	sqes                    unsafe.Pointer

	cqHead, cqTail    *uint32
	cqMask, cqEntries uint32
	cqes              unsafe.Pointer

	rings, entries []byte // the mappings

	// What a wait hands to the kernel by address. It lies here because stacks
	// move, and the ring does not: it must be on the heap.
	argument waitArgument
	timespec [2]int64
}

// openRing makes a ring with room for n submissions and times as many
// completions, and tells which call failed if one does.
func openRing(n, times, flags uint32) (*ring, string, error) {
	if android.Filtered() {
		return nil, "io_uring_setup", unix.ENOSYS // the attempt would end the process
	}
	p := params{flags: flags | setupCQSize, cqEntries: n * times}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(n), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, "io_uring_setup", errno
	}
	r := &ring{fd: int(fd), features: p.features}
	if p.features&(featSingleMmap|featNoDrop|featExtArg) != featSingleMmap|featNoDrop|featExtArg {
		unix.Close(r.fd)
		return nil, "io_uring of a kernel before 5.11", unix.ENOSYS
	}
	size := max(p.sq.array+p.sqEntries*4, p.cq.cqes+p.cqEntries*uint32(unsafe.Sizeof(cqe{})))
	const access, kind = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	var err error
	if r.rings, err = unix.Mmap(r.fd, offsetRings, int(size), access, kind); err == nil {
		r.entries, err = unix.Mmap(r.fd, offsetSQEs, int(p.sqEntries)*int(unsafe.Sizeof(sqe{})), access, kind)
	}
	if err != nil {
		_ = r.close()
		return nil, "mmap of the io_uring", err
	}
	word := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[offset])) }
	r.sqHead, r.sqTail, r.sqFlags = word(p.sq.head), word(p.sq.tail), word(p.sq.flags)
	r.sqMask, r.sqEntries = *word(p.sq.mask), *word(p.sq.entries)
	r.sqes = unsafe.Pointer(&r.entries[0])
	r.cqHead, r.cqTail = word(p.cq.head), word(p.cq.tail)
	r.cqMask, r.cqEntries = *word(p.cq.mask), *word(p.cq.entries)
	r.cqes = unsafe.Pointer(&r.rings[p.cq.cqes])
	// The kernel reads entries by way of an array of indexes. Ours are in order,
	// for good.
	for i := range r.sqEntries {
		*word(p.sq.array + 4*i) = i
	}
	return r, "", nil
}

// close ends the ring. The kernel cancels what is left in it, a little later.
func (r *ring) close() error {
	if r.entries != nil {
		_ = unix.Munmap(r.entries)
	}
	if r.rings != nil {
		_ = unix.Munmap(r.rings)
	}
	return unixfd.Close(r.fd)
}

// next returns the next free submission, cleared, or nil when the queue is full.
// It is handed in by commit.
func (r *ring) next() *sqe {
	tail := *r.sqTail // only we write it
	if tail-atomic.LoadUint32(r.sqHead) == r.sqEntries {
		return nil
	}
	e := (*sqe)(unsafe.Add(r.sqes, uintptr(tail&r.sqMask)*unsafe.Sizeof(sqe{})))
	*e = sqe{}
	return e
}

// commit puts what next returned into the queue. The kernel reads it during the
// next enter.
func (r *ring) commit() { atomic.StoreUint32(r.sqTail, *r.sqTail+1) }

// pending is how many submissions the kernel has not taken.
func (r *ring) pending() uint32 { return *r.sqTail - atomic.LoadUint32(r.sqHead) }

// overflowed reports that completions did not fit and wait inside the kernel;
// an enter with enterGetEvents brings them in as far as there is room.
func (r *ring) overflowed() bool { return atomic.LoadUint32(r.sqFlags)&sqOverflow != 0 }

// unfinished reports that there may be work left for an enter with
// enterGetEvents: the kernel does a part at a time (20 requests since 6.13). Only
// a ring with setupTaskrunFlag knows, and it may be wrong: the kernel sets the
// flag after it has queued the work, which may be done by then.
func (r *ring) unfinished() bool { return atomic.LoadUint32(r.sqFlags)&sqTaskrun != 0 }

// tail is the end of the completions that are there.
func (r *ring) tail() uint32 { return atomic.LoadUint32(r.cqTail) }

// head is the first completion that was not consumed.
func (r *ring) head() uint32 { return *r.cqHead } // only we write it

// at returns a completion between head and tail.
func (r *ring) at(i uint32) *cqe {
	return (*cqe)(unsafe.Add(r.cqes, uintptr(i&r.cqMask)*unsafe.Sizeof(cqe{})))
}

// consume gives the completions before i back to the kernel.
func (r *ring) consume(i uint32) { atomic.StoreUint32(r.cqHead, i) }

// enter hands n submissions to the kernel and does not block. It returns how
// many the kernel took.
func (r *ring) record(n, flags uint32) (uint32, unix.Errno) {
	got, _, errno := syscall.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(n), 0, uintptr(flags), 0, 0)
	return uint32(got), errno
}

// finish lets the kernel bring in completions that it keeps back, and says whether
// there were any.
func (r *ring) finish() (more bool, errno unix.Errno) {
	before := r.tail()
	_, errno = r.record(0, enterGetEvents)
	return r.tail() != before, errno
}

// wait is enter that then blocks until there is a completion, or until the
// timeout is over, which is no error. Negative is for ever.
func (r *ring) wait(n uint32, timeout time.Duration) (uint32, unix.Errno) {
	r.argument = waitArgument{}
	if timeout >= 0 {
		// The kernel adds it to its clock without a look at overflow.
		timeout = min(timeout, longestWait)
		r.timespec = [2]int64{int64(timeout / time.Second), int64(timeout % time.Second)}
		r.argument.timespec = uint64(uintptr(unsafe.Pointer(&r.timespec)))
	}
	got, _, errno := syscall.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(n), 1,
		enterGetEvents|enterExtArg, uintptr(unsafe.Pointer(&r.argument)), unsafe.Sizeof(r.argument))
	if errno == unix.ETIME {
		errno = 0
	}
	return uint32(got), errno
}

// longestWait is what a wait is cut to: some 100 years. It then ends early.
const longestWait = 100 * 365 * 24 * time.Hour

// enable starts a ring made with setupDisabled, for the calling thread.
func (r *ring) enable() unix.Errno { return r.register(registerEnableRings) }

// register is io_uring_register for what takes no argument.
func (r *ring) register(op uintptr) unix.Errno {
	_, _, errno := syscall.RawSyscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), op, 0, 0, 0, 0)
	return errno
}

// polled is a set of poll bits as a submission has it: as a whole word, whose
// halves big-endian machines swap, since it once was 16 bits.
func polled(events uint32) uint32 {
	if bigEndian {
		return bits.RotateLeft32(events, 16)
	}
	return events
}

var bigEndian = *(*byte)(unsafe.Pointer(&[]uint16{1}[0])) == 0
