package pollfd

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
)

// native is Linux, which has timeouts in nanoseconds and exact identities.
var native = system{
	resolution:    time.Nanosecond,
	poll:          ppoll,
	newIdentities: func() identities { return new(linuxIdentities) },
}

// ppoll calls ppoll(2). It cuts the timeout to 68 years, because seconds have 32 bits on
// some architectures.
func ppoll(fds []unix.PollFd, timeout time.Duration) (int, error) {
	if timeout < 0 {
		return unix.Ppoll(fds, nil, nil)
	}
	ts := unix.NsecToTimespec(int64(min(timeout, math.MaxInt32*time.Second)))
	return unix.Ppoll(fds, &ts, nil)
}

// linuxIdentities adapts linux.Identities.
type linuxIdentities struct{ linux.Identities }

func (b *linuxIdentities) record(h backend.Handle, was fileID, known bool) (fileID, error) {
	id, errno := b.Record(h, linux.FileID(was.inode), known)
	return fileID{inode: uint64(id)}, linux.RecordError(errno)
}

func (b *linuxIdentities) check(h backend.Handle, was fileID) error {
	return linux.CtlError(b.Check(h, linux.FileID(was.inode)))
}

func (b *linuxIdentities) forget(h backend.Handle, was fileID) error {
	return linux.CtlError(b.Forget(h, linux.FileID(was.inode)))
}

func (b *linuxIdentities) unknown(h backend.Handle) error { return linux.Unknown(h) }
func (b *linuxIdentities) close() error                   { return b.Close() }
