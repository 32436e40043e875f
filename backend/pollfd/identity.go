//go:build unix

package pollfd

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// identities tells whether a descriptor is still the file that was registered. poll(2)
// keeps no record of that, and descriptors are closed and their numbers reused at any
// time. Wait calls check concurrently with changes, which come one at a time.
type identities interface {
	// record records the file that h is now. known says that was is recorded for h; the
	// error is EEXIST if h is still that file. After EBADF or ErrNotPollable nothing is
	// recorded for h.
	record(h backend.Handle, was fileID, known bool) (fileID, error)
	// check reports whether h is still the recorded file. If not, the error is ENOENT or
	// EBADF.
	check(h backend.Handle, was fileID) error
	// forget is check, and deletes what is recorded for h.
	forget(h backend.Handle, was fileID) error
	// unknown returns the error for an h for which nothing is recorded: ENOENT or EBADF.
	unknown(h backend.Handle) error
	close() error
}

// fileID is the identity of a file, as far as the system has one.
type fileID struct{ device, inode, kind uint64 }

// statIdentities uses fstat(2): the device, the inode number and the kind of file, which
// for the ends of a pipe includes the access mode. It is as exact as the inode numbers of
// the system are.
type statIdentities struct {
	identify func(h backend.Handle) (fileID, error)
}

func (s statIdentities) record(h backend.Handle, was fileID, known bool) (fileID, error) {
	id, err := s.identify(h)
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
	// poll(2) does not take every open descriptor: on macOS, not those of some devices.
	probe := []unix.PollFd{pollFd(int(h), 0)}
	if _, err := unix.Poll(probe, 0); err == nil && revents(&probe[0])&unix.POLLNVAL != 0 {
		return id, fmt.Errorf("poll(2) does not take it: %w: %w", backend.ErrNotPollable, unix.EINVAL)
	}
	return id, nil
}

func (s statIdentities) check(h backend.Handle, was fileID) error {
	id, err := s.identify(h)
	if err == nil && id != was {
		err = unix.ENOENT
	}
	return err
}

func (s statIdentities) forget(h backend.Handle, was fileID) error { return s.check(h, was) }

func (s statIdentities) unknown(h backend.Handle) error {
	if _, err := s.identify(h); err != nil {
		return err
	}
	return unix.ENOENT
}

func (statIdentities) close() error { return nil }

// identify returns the identity of h.
func identify(h backend.Handle) (fileID, error) {
	if uint64(h) > math.MaxInt32 {
		return fileID{}, unix.EBADF // the system would use the lower half only
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
