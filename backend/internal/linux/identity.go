//go:build linux

package linux

import (
	"errors"
	"fmt"
	"math"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// Identities is the account of registered files of a queue whose kernel keeps none: it
// tells whether a descriptor still is the file that it was. For numbers are closed
// and reused behind a queue's back.
//
// Sockets have an identity of their own. The kernel numbers them, and never gives a
// number twice (SO_COOKIE, socket(7)), and a socket can always be polled: one
// system call answers for all. Other files have nothing of the kind. Device and
// inode are the same for all eventfds and timerfds, and for both ends of a pipe.
// Those are entered into an epoll that nobody waits on: the kernel keeps in it which
// files are there, by number and file, forgets them when they are closed, and
// refuses what cannot be polled.
type Identities struct {
	epfd int // 0: none yet; the number is one of ours plus 1
}

// FileID is the identity of a file; NotSocket that of all that have none.
type FileID uint64

// NotSocket is the identity of the files that are in the epoll.
const NotSocket FileID = 0

// MaxDescriptor is the greatest number that a descriptor can have.
const MaxDescriptor = math.MaxInt32

// Record records what h is now, and returns its identity. known says that was is
// entered for h; EEXIST, that it still is what h is. EBADF and EPERM (it cannot be
// polled) mean that nothing is, whatever was before.
func (b *Identities) Record(h backend.Handle, was FileID, known bool) (FileID, unix.Errno) {
	id, errno := identify(h)
	known = known && was == id
	switch {
	case errno != 0:
	case id == NotSocket:
		if errno = b.add(h); errno == unix.EEXIST && !known {
			errno = 0 // ours, of a time before the number was closed and came back by dup2
		}
	case known:
		errno = unix.EEXIST
	}
	return id, errno
}

// RecordError translates what Enter answers.
func RecordError(errno unix.Errno) error {
	switch errno {
	case 0, unix.EEXIST, unix.EBADF, unix.EPERM:
		return CtlError(errno)
	}
	return fmt.Errorf("the account of files that are no sockets, an epoll: %w", CtlError(errno))
}

// Check looks whether h still is what was entered for it: if not, it answers
// ENOENT, or EBADF.
func (b *Identities) Check(h backend.Handle, was FileID) unix.Errno {
	return b.look(h, was, unix.EPOLL_CTL_MOD)
}

// Forget is Check, and strikes the entry out.
func (b *Identities) Forget(h backend.Handle, was FileID) unix.Errno {
	return b.look(h, was, unix.EPOLL_CTL_DEL)
}

// Unknown is the answer for h when nothing is entered for it: ENOENT, or EBADF.
func Unknown(h backend.Handle) unix.Errno {
	if _, errno := identify(h); errno != 0 {
		return errno
	}
	return unix.ENOENT
}

// Owns reports that h is the book itself.
func (b *Identities) Owns(h backend.Handle) bool { return b.epfd != 0 && h == backend.Handle(b.epfd-1) }

// Close closes the book.
func (b *Identities) Close() error {
	if b.epfd == 0 {
		return nil
	}
	fd := b.epfd - 1
	b.epfd = 0
	return unix.Close(fd)
}

func (b *Identities) look(h backend.Handle, was FileID, op int) unix.Errno {
	if was == NotSocket {
		errno := Ctl(b.epfd-1, op, h, nothing, 0)
		if errno == unix.EPERM {
			errno = unix.ENOENT // it is a regular file now
		}
		return errno
	}
	id, errno := identify(h)
	if errno == 0 && id != was {
		errno = unix.ENOENT
	}
	return errno
}

// nothing is asked for in the epoll, and after the first hang-up or error, which
// come unasked, not even those.
const nothing = unix.EPOLLONESHOT | unix.EPOLLET

func (b *Identities) add(h backend.Handle) unix.Errno {
	if b.epfd == 0 {
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			var errno unix.Errno
			errors.As(err, &errno)
			return errno
		}
		b.epfd = fd + 1
	}
	return Ctl(b.epfd-1, unix.EPOLL_CTL_ADD, h, nothing, 0)
}

// identify asks the kernel who h is.
func identify(h backend.Handle) (FileID, unix.Errno) {
	if uint64(h) > MaxDescriptor {
		return 0, unix.EBADF
	}
	var cookie FileID
	size := uint32(unsafe.Sizeof(cookie))
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(h), unix.SOL_SOCKET, unix.SO_COOKIE,
		uintptr(unsafe.Pointer(&cookie)), uintptr(unsafe.Pointer(&size)), 0)
	if errno == unix.ENOTSOCK {
		return NotSocket, 0
	}
	return cookie, errno
}
