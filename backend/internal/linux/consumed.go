//go:build linux

package linux

import (
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// Consumed reports whether polling h may take away what it says, so that whoever
// asks next is told nothing: a perf event, and files such as /proc/self/mounts, say
// a thing once. Such a file must be asked only by the one that reports the answer.
//
// The kernel does not tell. Sockets, pipes, terminals, and what has the name of a
// kernel object known to keep its state are safe; all else counts as consumed.
func Consumed(h backend.Handle) (bool, unix.Errno) {
	var st unix.Stat_t
	if err := unix.Fstat(int(h), &st); err != nil {
		return false, err.(unix.Errno)
	}
	return st.Mode&unix.S_IFMT != unix.S_IFSOCK && consumedFile(h, &st), 0
}

// consumedFile is Consumed for a file that is not a socket.
func consumedFile(h backend.Handle, st *unix.Stat_t) bool {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return false
	case unix.S_IFCHR:
		_, err := unix.IoctlGetTermios(int(h), unix.TCGETS)
		return err != nil && err != unix.EIO // of a terminal that hung up
	}
	var buf [64]byte
	name := fileName(h, &buf)
	if strings.HasPrefix(name, "pidfd:[") {
		return false
	}
	switch strings.TrimPrefix(name, "anon_inode:") {
	case "[eventfd]", "[timerfd]", "[signalfd]", "inotify", "[inotify]", "[fanotify]", "[eventpoll]", "[pidfd]", "[io_uring]":
		return false
	}
	return true
}

// perfEvent returns the number of a perf event (PERF_EVENT_IOC_ID), which is not
// used again.
func perfEvent(h backend.Handle) (uint64, bool) {
	var buf [64]byte
	if fileName(h, &buf) != "anon_inode:[perf_event]" {
		return 0, false
	}
	var id uint64
	_, _, errno := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(h), unix.PERF_EVENT_IOC_ID, uintptr(unsafe.Pointer(&id)))
	return id, errno == 0
}

// fileName returns the name that /proc has for a descriptor, as far as it fits
// into buf; nothing if there is no /proc.
func fileName(h backend.Handle, buf *[64]byte) string {
	var path [40]byte
	p := append(strconv.AppendUint(append(path[:0], "/proc/self/fd/"...), uint64(h), 10), 0)
	at := unix.AT_FDCWD
	n, _, errno := syscall.RawSyscall6(unix.SYS_READLINKAT, uintptr(at), uintptr(unsafe.Pointer(&p[0])),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
	if errno != 0 {
		return ""
	}
	return unsafe.String(&buf[0], int(n))
}
