//go:build linux

package uring

import (
	"math/bits"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/android"
	"github.com/epore/epore/internal/unixfd"
)

// Ring is an io_uring: two rings in memory shared with the kernel. We fill the
// submission queue and advance its tail, and the kernel advances its head; for
// the completion queue it is the other way round. An entry belongs to the side
// that has not yet moved past it, so each side writes entries before it stores
// its index, and loads the other side's index before it reads entries. Go's
// atomics give the acquire and release ordering that this needs.
//
// A Ring knows nothing of readiness and has no lock; its user provides one.
type Ring struct {
	FD       int
	Features uint32 // Feat*
	loud     bool   // see Quiet

	sqHead, sqTail, sqFlags *uint32
	sqMask, SQEntries       uint32
	sqes                    unsafe.Pointer

	cqHead, cqTail, cqFlags *uint32
	cqMask, CQEntries       uint32
	cqes                    unsafe.Pointer
	head, keep              uint32 // see Head and KeepConsumed

	rings, entries []byte // the mappings

	// What Wait hands to the kernel by address. These are fields because a ring
	// is on the heap and stays in place, and Go's stacks move.
	argument waitArgument
	timespec [2]int64
}

// Open makes a ring with room for n submissions and times as many
// completions. If a call fails, it names the call.
func Open(n, times, flags uint32) (*Ring, string, error) {
	if android.Filtered() {
		return nil, "io_uring_setup", unix.ENOSYS // the attempt would end the process
	}
	p := params{flags: flags | SetupCQSize, cqEntries: n * times}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(n), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, "io_uring_setup", errno
	}
	r := &Ring{FD: int(fd), Features: p.features, loud: strings.HasPrefix(Kernel(), "5.19.")}
	const needed = featSingleMmap | featNoDrop | featExtArg | featRsrcTags
	if p.features&needed != needed {
		unix.Close(r.FD)
		return nil, "io_uring of a kernel before 5.13", unix.ENOSYS
	}
	size := max(p.sq.array+p.sqEntries*4, p.cq.cqes+p.cqEntries*uint32(unsafe.Sizeof(CQE{})))
	const access, kind = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	var err error
	if r.rings, err = unix.Mmap(r.FD, offsetRings, int(size), access, kind); err == nil {
		r.entries, err = unix.Mmap(r.FD, offsetSQEs, int(p.sqEntries)*int(unsafe.Sizeof(SQE{})), access, kind)
	}
	if err != nil {
		_ = r.Close()
		return nil, "mmap of the io_uring", err
	}
	word := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[offset])) }
	r.sqHead, r.sqTail, r.sqFlags = word(p.sq.head), word(p.sq.tail), word(p.sq.flags)
	r.sqMask, r.SQEntries = *word(p.sq.mask), *word(p.sq.entries)
	r.sqes = unsafe.Pointer(&r.entries[0])
	r.cqHead, r.cqTail, r.cqFlags = word(p.cq.head), word(p.cq.tail), word(p.cq.flags)
	r.cqMask, r.CQEntries = *word(p.cq.mask), *word(p.cq.entries)
	r.cqes = unsafe.Pointer(&r.rings[p.cq.cqes])
	// The kernel reads entries through an array of indexes. Ours stay in order.
	for i := range r.SQEntries {
		*word(p.sq.array + 4*i) = i
	}
	return r, "", nil
}

// Close closes the ring. The kernel cancels the requests in it a little later.
func (r *Ring) Close() error {
	if r.entries != nil {
		_ = unix.Munmap(r.entries)
	}
	if r.rings != nil {
		_ = unix.Munmap(r.rings)
	}
	fd := r.FD
	r.FD = -1
	return unixfd.Close(fd)
}

// IsClosed reports whether Close was called. Then nothing but it may be called.
func (r *Ring) IsClosed() bool { return r.FD < 0 }

// Next returns the next free submission entry, cleared, or nil if the queue is
// full. Commit then adds it to the queue.
func (r *Ring) Next() *SQE {
	tail := *r.sqTail // only we write it
	if tail-atomic.LoadUint32(r.sqHead) == r.SQEntries {
		return nil
	}
	e := (*SQE)(unsafe.Add(r.sqes, uintptr(tail&r.sqMask)*unsafe.Sizeof(SQE{})))
	*e = SQE{}
	return e
}

// Commit adds the entry that Next returned to the queue. The kernel reads it
// during the next Enter.
func (r *Ring) Commit() { atomic.StoreUint32(r.sqTail, *r.sqTail+1) }

// Add adds e to the queue, which must have room.
func (r *Ring) Add(e SQE) {
	*r.Next() = e
	r.Commit()
}

// Retract takes back the submissions that the kernel has not taken. The kernel looks for
// submissions only during Enter and Submit.
func (r *Ring) Retract() { atomic.StoreUint32(r.sqTail, atomic.LoadUint32(r.sqHead)) }

// Pending returns how many submissions the kernel has not taken.
func (r *Ring) Pending() uint32 { return *r.sqTail - atomic.LoadUint32(r.sqHead) }

// Overflowed reports whether completions did not fit and wait inside the kernel.
// An enter with EnterGetEvents fetches as many as there is room for.
func (r *Ring) Overflowed() bool { return atomic.LoadUint32(r.sqFlags)&sqOverflow != 0 }

// Unfinished reports whether an enter with EnterGetEvents may have requests to
// complete. One enter completes a limited number (20 since Linux 6.13). Only
// with SetupTaskrunFlag does the kernel set this flag; it sets it after it has
// queued the work, so the work may be done already.
func (r *Ring) Unfinished() bool { return atomic.LoadUint32(r.sqFlags)&sqTaskrun != 0 }

// Tail is the end of the completions that have arrived.
func (r *Ring) Tail() uint32 { return atomic.LoadUint32(r.cqTail) }

// Head is the first completion that was not consumed.
func (r *Ring) Head() uint32 { return r.head }

// At returns a completion between head and tail.
func (r *Ring) At(i uint32) *CQE {
	return (*CQE)(unsafe.Add(r.cqes, uintptr(i&r.cqMask)*unsafe.Sizeof(CQE{})))
}

// Consume returns the entries of the completions before i to the kernel, except for those
// that KeepConsumed keeps.
func (r *Ring) Consume(i uint32) {
	r.head = i
	if i-*r.cqHead > r.keep { // only we write it
		atomic.StoreUint32(r.cqHead, i-r.keep)
	}
}

// KeepConsumed has Consume keep the last n completions in the ring, so that one enter
// completes up to n requests. It is for rings with SetupDeferTaskrun. Since Linux 6.13, one
// enter completes 20 requests, or as many as it is told to wait for, and waits until there
// are as many completions in the ring. If there are already, it does not wait.
func (r *Ring) KeepConsumed(n uint32) { r.keep = n }

// kept returns how many completions are in the ring that were consumed.
func (r *Ring) kept() uint32 { return r.head - *r.cqHead }

// Enter submits n entries without blocking, and returns how many the kernel took.
func (r *Ring) Enter(n, flags uint32) (uint32, unix.Errno) {
	got, _, errno := syscall.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.FD), uintptr(n), uintptr(r.kept()), uintptr(flags), 0, 0)
	return uint32(got), errno
}

// Submit is Enter for requests that may take a while to begin, such as reads: it announces
// itself to Go's scheduler.
func (r *Ring) Submit(n uint32) (uint32, unix.Errno) {
	got, _, errno := syscall.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.FD), uintptr(n), uintptr(r.kept()), EnterGetEvents, 0, 0)
	return uint32(got), errno
}

// Finish has the kernel deliver completions that it holds back, and reports
// whether any came.
func (r *Ring) Finish() (more bool, errno unix.Errno) {
	before := r.Tail()
	_, errno = r.Enter(0, EnterGetEvents)
	return r.Tail() != before, errno
}

// Wait blocks until there is a completion or the timeout is over, which is no
// error. A negative timeout waits indefinitely.
func (r *Ring) Wait(timeout time.Duration) unix.Errno {
	r.argument = waitArgument{}
	if timeout >= 0 {
		// The kernel adds it to its clock without a check for overflow.
		timeout = min(timeout, longestWait)
		r.timespec = [2]int64{int64(timeout / time.Second), int64(timeout % time.Second)}
		r.argument.timespec = uint64(uintptr(unsafe.Pointer(&r.timespec)))
	}
	_, _, errno := syscall.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.FD), 0, uintptr(r.kept()+1),
		EnterGetEvents|EnterExtArg, uintptr(unsafe.Pointer(&r.argument)), unsafe.Sizeof(r.argument))
	if errno == unix.ETIME {
		errno = 0
	}
	return errno
}

// longestWait is the longest timeout of Wait, some 100 years; longer ones end
// early.
const longestWait = 100 * 365 * 24 * time.Hour

// Enable starts a ring made with SetupDisabled, for the calling thread.
func (r *Ring) Enable() unix.Errno { return r.Register(RegisterEnableRings) }

// Register is io_uring_register for operations without an argument.
func (r *Ring) Register(op uintptr) unix.Errno {
	_, _, errno := syscall.RawSyscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.FD), op, 0, 0, 0, 0)
	return errno
}

// RegisterEventFD has the kernel add to the eventfd fd when there are completions.
func (r *Ring) RegisterEventFD(fd int) unix.Errno {
	arg := int32(fd)
	_, _, errno := syscall.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.FD), RegisterEventFD, uintptr(unsafe.Pointer(&arg)), 1, 0, 0)
	return errno
}

// Quiet stops and restarts the additions to the eventfd. Completions that arrive between
// Quiet(true) and Quiet(false) are not told, so look at Tail after Quiet(false): both sides
// write, then have a full barrier, then read, so that one of them sees the other's write.
// The kernel sets its tail in io_commit_cqring and reads this flag in io_eventfd_signal. The
// barrier between is that of wq_has_sleeper before Linux 5.19 and since 6.10, and that of the
// completion lock in 6.0 to 6.9. Linux 5.19 has none: there Quiet does nothing.
func (r *Ring) Quiet(quiet bool) {
	if r.loud {
		return
	}
	var flags uint32
	if quiet {
		flags = cqEventFDDisabled
	}
	atomic.StoreUint32(r.cqFlags, flags)
}

// PollBits returns a set of poll bits as a submission stores it: one word, whose
// halves are swapped on big-endian machines because it used to be 16 bits.
func PollBits(events uint32) uint32 {
	if bigEndian {
		return bits.RotateLeft32(events, 16)
	}
	return events
}

var bigEndian = *(*byte)(unsafe.Pointer(&[]uint16{1}[0])) == 0
