//go:build unix

package pollfd

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// A book is the account of what is registered, which poll(2) has not: it tells
// whether a descriptor still is the file that it was. Numbers are closed and
// reused behind a queue's back.
type identities interface {
	// enter enters what h is now. known says that was is entered for h; EEXIST,
	// that h still is that. EBADF and ErrNotPollable: it is not, whatever it is.
	record(h backend.Handle, was fileID, known bool) (fileID, error)
	// check looks whether h still is what was entered: ENOENT or EBADF if not.
	check(h backend.Handle, was fileID) error
	// strike is check, and strikes the entry out.
	forget(h backend.Handle, was fileID) error
	// unknown is the answer for what was never entered, or struck out: ENOENT, or
	// EBADF.
	unknown(h backend.Handle) error
	close() error
}

// fileID is the identity of a file, as far as the system tells one.
type fileID struct{ device, inode, kind uint64 }

// statIdentities asks fstat: device, inode, and what kind of file it is, which for the
// ends of a pipe includes who may read and who may write. It is as good as the
// system's inode numbers.
type statIdentities struct{}

func (statIdentities) record(h backend.Handle, was fileID, known bool) (fileID, error) {
	id, err := identify(h)
	if err != nil {
		return id, err
	}
	switch id.kind & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFBLK:
		return id, fmt.Errorf("%w: %w", backend.ErrNotPollable, unix.EPERM)
	}
	if known && was == id {
		return id, unix.EEXIST
	}
	// Some devices are open and not for poll (those of macOS).
	probe := []unix.PollFd{pollFd(int(h), 0)}
	if _, err := unix.Poll(probe, 0); err == nil && revents(&probe[0])&unix.POLLNVAL != 0 {
		return id, fmt.Errorf("poll(2) does not take it: %w: %w", backend.ErrNotPollable, unix.EINVAL)
	}
	return id, nil
}

func (statIdentities) check(h backend.Handle, was fileID) error {
	id, err := identify(h)
	if err == nil && id != was {
		err = unix.ENOENT
	}
	return err
}

func (b statIdentities) forget(h backend.Handle, was fileID) error { return b.check(h, was) }

func (statIdentities) unknown(h backend.Handle) error {
	if _, err := identify(h); err != nil {
		return err
	}
	return unix.ENOENT
}

func (statIdentities) close() error { return nil }

// identify asks the system who h is.
func identify(h backend.Handle) (fileID, error) {
	if uint64(h) > math.MaxInt32 {
		return fileID{}, unix.EBADF // the system would look at the lower half only
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(h), &st); err != nil {
		return fileID{}, err
	}
	access, err := unix.FcntlInt(uintptr(h), unix.F_GETFL, 0)
	if err != nil {
		return fileID{}, err
	}
	return fileID{
		device: uint64(st.Dev),
		inode:  uint64(st.Ino),
		kind:   uint64(st.Rdev)<<32 | uint64(access&unix.O_ACCMODE)<<24 | uint64(st.Mode)&unix.S_IFMT,
	}, nil
}
