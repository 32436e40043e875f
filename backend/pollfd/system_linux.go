package pollfd

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
)

// native is Linux, which waits for nanoseconds and tells files apart.
var native = system{
	resolution: time.Nanosecond,
	poll:       ppoll,
	newBook:    func() book { return new(linuxBook) },
}

// ppoll is ppoll(2). Seconds have 32 bits on some architectures: what is more is
// cut to 68 years.
func ppoll(fds []unix.PollFd, timeout time.Duration) (int, error) {
	if timeout < 0 {
		return unix.Ppoll(fds, nil, nil)
	}
	ts := unix.NsecToTimespec(int64(min(timeout, math.MaxInt32*time.Second)))
	return unix.Ppoll(fds, &ts, nil)
}

// linuxBook is a linux.Book.
type linuxBook struct{ linux.Book }

func (b *linuxBook) enter(h backend.Handle, was fileID, known bool) (fileID, error) {
	id, errno := b.Enter(h, linux.FileID(was.inode), known)
	return fileID{inode: uint64(id)}, linux.EnterError(errno)
}

func (b *linuxBook) check(h backend.Handle, was fileID) error {
	return linux.CtlError(b.Check(h, linux.FileID(was.inode)))
}

func (b *linuxBook) strike(h backend.Handle, was fileID) error {
	return linux.CtlError(b.Strike(h, linux.FileID(was.inode)))
}

func (b *linuxBook) unknown(h backend.Handle) error { return linux.Unknown(h) }
func (b *linuxBook) close() error                   { return b.Close() }
