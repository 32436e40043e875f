package fileop

import (
	"io"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxInline is the longest read that is tried on the goroutine that starts it. Copying more
// takes longer than handing it to a worker.
const maxInline = 64 << 10

// cachedState is what tryRead and dataSync keep in a request, so that they allocate nothing.
type cachedState struct {
	try   func(fd uintptr)
	file  *os.File // the last one that was tried
	never bool     // file must not be tried
	vec   unix.Iovec
	errno syscall.Errno
	sync  func(fd uintptr)
	err   error // of sync
}

// tryRead reads what is in the page cache, without waiting, and finishes op if that is all
// that it asks for. Handing a cached read to a worker costs more than the read. Files that
// were opened with O_DIRECT are left out, because RWF_NOWAIT does not keep such a read from
// waiting for the device.
func tryRead(op *Op) bool {
	c := &op.cached
	if c.try == nil {
		c.try = op.readCached
	}
	if c.file == op.file && c.never || op.total > maxInline {
		return false
	}
	c.errno = unix.EAGAIN
	if op.raw.Control(c.try) != nil || c.errno != 0 {
		c.never = c.never || c.errno == unix.EOPNOTSUPP
		return false
	}
	switch op.n {
	case op.total:
		op.finish(nil)
	case 0:
		op.finish(io.EOF)
	default: // the rest is not cached, or the file ends
		op.n = 0
		return false
	}
	return true
}

func (op *Op) readCached(fd uintptr) {
	c := &op.cached
	if c.file != op.file {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		c.file, c.never = op.file, err != nil || flags&unix.O_DIRECT != 0
		if c.never {
			return
		}
	}
	c.vec.Base = &op.bufs[0][0]
	c.vec.SetLen(op.total)
	n, _, errno := syscall.RawSyscall6(unix.SYS_PREADV2, fd, uintptr(unsafe.Pointer(&c.vec)), 1,
		uintptr(op.off), uintptr(uint64(op.off)>>32), unix.RWF_NOWAIT)
	c.vec.Base = nil
	if c.errno = errno; errno == 0 {
		op.n = int(n)
	}
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
