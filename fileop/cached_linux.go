package fileop

import (
	"io"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cachedState is what readCached and dataSync keep in a request, so that they allocate nothing.
type cachedState struct {
	try   func(fd uintptr)
	file  *os.File // the last one that was tried
	never bool     // file must not be tried

	// After a miss, skip reads are not tried: 1, 3, 7 and so on, until the next hit.
	skip, misses uint8

	// Of the read that is tried.
	vec   unix.Iovec
	off   int64
	n     int
	errno syscall.Errno // EAGAIN: not all of it is cached

	sync func(fd uintptr)
	err  error // of sync
}

// readCached reads what is in the page cache into b, without waiting. If that is all that there
// is to read, ended is true, and n and err are the result. Handing a cached read to an engine
// costs more. Files that were opened with O_DIRECT are left out, because RWF_NOWAIT does not
// keep such a read from waiting for the device. Where the file system does not support the
// flag, the kernel refuses it (EOPNOTSUPP).
//
// open says that it was tried, and that the file was open. It requires the lock.
func (op *Op) readCached(b []byte, off int64) (n int, ended, open bool, err error) {
	c := &op.cached
	switch {
	case len(b) > op.queue.maxInline || c.file == op.file && c.never:
		return 0, false, false, nil
	case c.file != op.file:
		c.skip, c.misses = 0, 0
	case c.skip > 0:
		c.skip--
		return 0, false, false, nil
	}
	if c.try == nil {
		c.try = op.tryRead
	}
	c.vec.Base, c.off, c.n = &b[0], off, len(b)
	open = op.raw.Control(c.try) == nil
	c.vec.Base = nil
	switch {
	case !open:
		return 0, false, false, nil
	case c.errno != 0:
		c.never = c.never || c.errno == unix.EOPNOTSUPP
		c.misses = min(2*c.misses+1, op.queue.maxSkip)
		c.skip = c.misses
		return 0, false, true, nil
	}
	c.misses = 0
	if c.n < len(b) {
		err = io.EOF
	}
	return c.n, true, true, err
}

// tryRead reads from off on into the c.n bytes at c.vec.Base.
func (op *Op) tryRead(fd uintptr) {
	c := &op.cached
	c.errno = unix.EAGAIN
	if c.file != op.file {
		if c.file, c.never = op.file, hasDirect(fd); c.never {
			return
		}
	}
	left := c.n
	for {
		c.vec.SetLen(left)
		n, _, errno := syscall.RawSyscall6(unix.SYS_PREADV2, fd, uintptr(unsafe.Pointer(&c.vec)), 1,
			uintptr(c.off), uintptr(uint64(c.off)>>32), unix.RWF_NOWAIT)
		if errno != 0 {
			c.errno = errno
			return
		}
		left -= int(n)
		if n == 0 || left == 0 {
			break
		}
		// A part only: the file ends there, or the rest is not cached.
		c.vec.Base = (*byte)(unsafe.Add(unsafe.Pointer(c.vec.Base), n))
		c.off += int64(n)
	}
	c.n -= left
	c.errno = 0
}

// hasDirect reports whether a file was opened with O_DIRECT.
func hasDirect(fd uintptr) bool {
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	return err == nil && flags&unix.O_DIRECT != 0
}

func isDirect(raw syscall.RawConn) (direct bool) {
	_ = raw.Control(func(fd uintptr) { direct = hasDirect(fd) })
	return direct
}

// mayWait reports whether an io_uring may wait for the file system during a submission, which is
// the loop's time. Kernels with commit f7c913438533 (October 2024, also in later 6.6 kernels) read
// a file that does not support IOCB_NOWAIT at once if poll reports that it is readable. Files of
// FUSE always are, and their server may take any time.
func mayWait(raw syscall.RawConn) (wait bool) {
	_ = raw.Control(func(fd uintptr) {
		var s unix.Statfs_t
		wait = unix.Fstatfs(int(fd), &s) != nil || s.Type == unix.FUSE_SUPER_MAGIC
	})
	return wait
}

// dataSync is fdatasync(2).
func dataSync(op *Op) error {
	c := &op.cached
	if c.sync == nil {
		c.sync = func(fd uintptr) {
			for c.err = unix.EINTR; c.err == unix.EINTR; {
				c.err = unix.Fdatasync(int(fd))
			}
		}
	}
	if op.raw.Control(c.sync) != nil {
		return fs.ErrClosed
	}
	return c.err
}
