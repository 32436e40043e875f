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
	"github.com/epore/epore/internal/unixfd"
)

// Identities records which files the registered descriptors of a queue are. It detects
// whether a descriptor still is the file that was registered: a program may close a
// descriptor without telling the queue, and the kernel reuses its number. Queues need it
// if their kernel interface does not detect this itself. The zero value is ready to use.
// Check may run concurrently with the other methods, for what was recorded before.
//
// The kernel numbers sockets and never reuses such a number (SO_COOKIE, socket(7)). All
// sockets can be polled, so one system call answers everything. Where that is missing
// (Linux before 4.12, emulators, sandboxes), the inode number of the socket identifies it;
// the kernel reuses one after 2^32 others. Other files lack such a number: device and inode
// are the same for all eventfds and timerfds, and for both ends of a pipe. Identities adds
// them to an epoll instance that nothing waits on. The kernel keeps its entries by
// descriptor number and file, removes them when the file is closed, and refuses files that
// cannot be polled.
//
// Adding a file to an epoll instance polls it. A file that this takes something away from
// (see [Consumed]) is not added. It is recognized by device and inode, and a perf event by
// its number.
type Identities struct {
	epfd int // the descriptor of the epoll instance plus 1; 0: none yet
}

// FileID is the identity of a file: the number of a socket, its inode number with the flag
// byInode, NotSocket, or the identity of a file that polling takes something away from, with
// the flag consumed.
type FileID uint64

// NotSocket is the identity of all files in the epoll instance, which distinguishes them.
const NotSocket FileID = 0

// byInode marks an inode number, and consumed a file that polling takes something away from.
// The numbers of sockets do not get as large.
const (
	byInode  FileID = 1 << 63
	consumed FileID = 1 << 62
)

// IsSocket reports whether the file is a socket.
func (id FileID) IsSocket() bool { return id != NotSocket && !id.Consumed() }

// Consumed reports whether polling takes something away from the file.
func (id FileID) Consumed() bool { return id&consumed != 0 && id&byInode == 0 }

// same reports whether id, which a file has now, may be the identity was. A filter that
// comes into force later can take the number away. Then nothing contradicts that the socket
// is the same.
func (was FileID) same(id FileID) bool {
	return was == id || was.IsSocket() && id.IsSocket() && (was^id)&byInode != 0
}

// MaxDescriptor is the largest possible descriptor.
const MaxDescriptor = math.MaxInt32

// Record records which file h is now, and returns its identity. known means that was is
// recorded for h. EEXIST means that h still is that file. EBADF (h is closed) and EPERM
// (it cannot be polled) mean that nothing is recorded for h any more, whatever was
// recorded before.
func (i *Identities) Record(h backend.Handle, was FileID, known bool) (FileID, unix.Errno) {
	id, errno := identify(h)
	if errno == 0 && id == NotSocket {
		return i.recordFile(h, was, known)
	}
	if errno == 0 && known && was.same(id) {
		id, errno = was, unix.EEXIST
	}
	return id, errno
}

// recordFile is Record for a file that is not a socket.
func (i *Identities) recordFile(h backend.Handle, was FileID, known bool) (FileID, unix.Errno) {
	id, errno := identifyFile(h)
	if errno == 0 {
		errno = i.open()
	}
	if errno != 0 {
		return id, errno
	}
	known = known && was == id
	if id == NotSocket {
		errno = i.ctl(unix.EPOLL_CTL_ADD, h)
		if errno == unix.EEXIST && !known {
			errno = 0 // a stale entry: the number was closed, and dup2 brought the file back to it
		}
		return id, errno
	}
	// The kernel refuses a file that cannot be polled before it looks for the entry.
	errno = i.ctl(unix.EPOLL_CTL_DEL, h)
	if errno == unix.ENOENT {
		errno = 0
	}
	if errno == 0 && known {
		errno = unix.EEXIST
	}
	return id, errno
}

// RecordError translates the result of Record into an error.
func RecordError(errno unix.Errno) error {
	switch errno {
	case 0, unix.EEXIST, unix.EBADF, unix.EPERM:
		return CtlError(errno)
	}
	return fmt.Errorf("record the identity of a file in an epoll instance: %w", CtlError(errno))
}

// Check returns 0 if h still is the file that was recorded for it. Otherwise it returns
// ENOENT, or EBADF if h is closed.
func (i *Identities) Check(h backend.Handle, was FileID) unix.Errno {
	return i.look(h, was, unix.EPOLL_CTL_MOD)
}

// Forget is Check, and removes the record.
func (i *Identities) Forget(h backend.Handle, was FileID) unix.Errno {
	return i.look(h, was, unix.EPOLL_CTL_DEL)
}

// Unknown returns the error for h if nothing is recorded for it: ENOENT, or EBADF if h is
// closed.
func Unknown(h backend.Handle) unix.Errno {
	if _, errno := identify(h); errno != 0 {
		return errno
	}
	return unix.ENOENT
}

// Owns reports whether h is the descriptor of the epoll instance.
func (i *Identities) Owns(h backend.Handle) bool { return i.epfd != 0 && h == backend.Handle(i.epfd-1) }

// Close closes the epoll instance and forgets all records. Closing again does nothing.
func (i *Identities) Close() error {
	if i.epfd == 0 {
		return nil
	}
	fd := i.epfd - 1
	i.epfd = 0
	return unixfd.Close(fd)
}

func (i *Identities) look(h backend.Handle, was FileID, op int) unix.Errno {
	if was == NotSocket {
		errno := i.ctl(op, h)
		if errno == unix.EPERM {
			errno = unix.ENOENT // h is a regular file now
		}
		return errno
	}
	id, errno := identify(h)
	if errno == 0 && id == NotSocket && was.Consumed() {
		id, errno = identifyFile(h)
	}
	if errno == 0 && !was.same(id) {
		errno = unix.ENOENT
	}
	return errno
}

// open opens the epoll instance when it is first needed.
func (i *Identities) open() unix.Errno {
	if i.epfd != 0 {
		return 0
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		var errno unix.Errno
		errors.As(err, &errno)
		return errno
	}
	i.epfd = fd + 1
	return 0
}

// ctl changes the entry of h, which requests no events. One-shot and edge also silence
// errors and hang-ups, which epoll reports unasked, after the first.
func (i *Identities) ctl(op int, h backend.Handle) unix.Errno {
	return Ctl(i.epfd-1, op, h, unix.EPOLLONESHOT|unix.EPOLLET, 0)
}

// identify asks the kernel for the identity of h.
func identify(h backend.Handle) (FileID, unix.Errno) {
	if uint64(h) > MaxDescriptor {
		return 0, unix.EBADF
	}
	var cookie FileID
	size := uint32(unsafe.Sizeof(cookie))
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(h), unix.SOL_SOCKET, unix.SO_COOKIE,
		uintptr(unsafe.Pointer(&cookie)), uintptr(unsafe.Pointer(&size)), 0)
	switch errno {
	case 0, unix.EBADF:
		return cookie, errno
	case unix.ENOTSOCK:
		return NotSocket, 0
	}
	return identifyByInode(h)
}

// identifyByInode is identify for systems without SO_COOKIE.
func identifyByInode(h backend.Handle) (FileID, unix.Errno) {
	var st unix.Stat_t
	if err := unix.Fstat(int(h), &st); err != nil {
		var errno unix.Errno
		errors.As(err, &errno)
		return 0, errno
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return NotSocket, 0
	}
	return byInode | FileID(st.Ino), 0
}

// identifyFile returns the identity of a file that is not a socket.
func identifyFile(h backend.Handle) (FileID, unix.Errno) {
	var st unix.Stat_t
	if err := unix.Fstat(int(h), &st); err != nil {
		var errno unix.Errno
		errors.As(err, &errno)
		return NotSocket, errno
	}
	if !consumedFile(h, &st) {
		return NotSocket, 0
	}
	id := FileID(st.Dev)<<32 ^ FileID(st.Ino)
	if n, ok := perfEvent(h); ok {
		id = FileID(n) // all perf events have one inode
	}
	return id&^byInode | consumed, 0
}
