//go:build !portable

package socket

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pipe is the pipe for splice(2), which moves pages instead of copying data.
type pipe struct {
	r, w    int // 0: no pipe yet
	size    int // its capacity; 0: no pipe yet
	n       int // how much is in it
	cleanup runtime.Cleanup
	fast    [2]bool // whether the streams of this call can be spliced: src, dst
	few     bool    // this call copies, because few bytes wait in src
}

// maxSplice is the capacity that is asked for. The pipes of a user without privileges have
// 64 MiB together; beyond that they are smaller.
const maxSplice = 1 << 20

func (p *pipe) inPipe() int { return p.n }

// fewBytes is how many bytes are copied rather than spliced: recvfrom and sendto cost less
// than two times splice, and need not know whether the streams are non-blocking.
const fewBytes = 16 << 10

// begin decides how a call moves data.
func (r *relay) begin(src, dst handle) {
	r.few = false
	if r.n == 0 { // otherwise the pipe is needed anyway
		waiting, errno := unread(src)
		r.few = errno == 0 && waiting <= fewBytes
	}
	if !r.few {
		r.look(src, dst)
	}
}

// look looks at the streams. Only O_NONBLOCK keeps splice from waiting for a socket:
// SPLICE_F_NONBLOCK concerns the pipe.
func (r *relay) look(src, dst handle) {
	r.fast = [2]bool{isNonblocking(src), isNonblocking(dst)}
}

// unread returns the number of bytes that can be read from a socket.
func unread(h handle) (n int, errno syscall.Errno) {
	var value int32
	_, _, errno = syscall.RawSyscall(unix.SYS_IOCTL, uintptr(h), unix.SIOCINQ, uintptr(unsafe.Pointer(&value)))
	return int(value), errno
}

// open creates the pipe. It is closed when the garbage collector removes the relay from the
// pool.
func (r *relay) open() bool {
	if r.size > 0 {
		return true
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return false // the data is copied then
	}
	size, err := unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, maxSplice)
	if err != nil {
		size = 64 << 10
	}
	r.r, r.w, r.size = fds[0], fds[1], size
	r.cleanup = runtime.AddCleanup(r, closePipe, fds)
	return true
}

func closePipe(fds [2]int) {
	_ = unix.Close(fds[0])
	_ = unix.Close(fds[1])
}

// drop discards the pending bytes, and closes the pipe.
func (r *relay) drop() {
	if r.size > 0 {
		r.cleanup.Stop()
		closePipe([2]int{r.r, r.w})
		r.pipe = pipe{}
	}
}

// fill reads into the pipe, or into the buffer if src cannot be spliced. Both are empty.
func (r *relay) fill(src, dst handle, most int64) (int, error) {
	if r.few {
		n, err := r.fillCopy(src, most)
		if n == copySize { // more has arrived since
			r.few = false
			r.look(src, dst)
		}
		return n, err
	}
	if !r.fast[0] || !r.open() {
		return r.fillCopy(src, most)
	}
	n, err := splice(int(src), r.w, min(most, int64(r.size)))
	if err == unix.EINVAL { // a family that it does not take
		r.fast[0] = false
		return r.fillCopy(src, most)
	}
	r.n = n
	return spliced(n, err)
}

// drain writes pending bytes.
func (r *relay) drain(dst handle, most int64) (int, error) {
	if r.ends > r.begins {
		return r.drainCopy(dst, most)
	}
	if r.fast[1] {
		n, err := splice(r.r, int(dst), min(most, int64(r.n)))
		if err != unix.EINVAL {
			r.n -= n
			return spliced(n, err)
		}
		r.fast[1] = false
	}
	// What is in the pipe is copied.
	if r.buf == nil {
		r.buf = copyBuffers.Get().(*[copySize]byte)
	}
	n := 0
	err := retryInterrupted(func() (err error) {
		n, err = unix.Read(r.r, r.buf[:])
		return err
	})
	if err != nil {
		return 0, os.NewSyscallError("read", err)
	}
	r.n -= n
	r.begins, r.ends = 0, n
	return r.drainCopy(dst, most)
}

// splice moves at most so many bytes. It tells the scheduler, although it does not wait: no flag
// keeps it from waiting for a socket if another program has just cleared O_NONBLOCK.
func splice(from, to int, most int64) (n int, err error) {
	err = retryInterrupted(func() error {
		m, err := unix.Splice(from, nil, to, nil, int(most), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		n = max(int(m), 0)
		return err
	})
	return n, err
}

func spliced(n int, err error) (int, error) {
	switch err {
	case nil:
		return n, nil
	case unix.EAGAIN:
		return 0, ErrWouldBlock
	}
	return 0, os.NewSyscallError("splice", err)
}
