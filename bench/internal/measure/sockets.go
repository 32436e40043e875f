package measure

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Pair is a pair of connected sockets. A byte that is put into Out can be got from In.
type Pair struct{ In, Out int }

// reserve is the number of descriptors that Pairs leaves free.
const reserve = 256

// Pairs returns n pairs, or fewer if the descriptor limit does not allow that many in each of
// the given number of sets. They live as long as the process.
func Pairs(n, sets int) ([]Pair, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, err
	}
	n = min(n, (int(min(limit.Cur, 1<<30))-reserve)/(2*sets))
	pairs := make([]Pair, n)
	for i := range pairs {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("socket pair %d of %d: %w", i, n, err)
		}
		pairs[i] = Pair{In: fds[0], Out: fds[1]}
	}
	return pairs, nil
}

// Put writes one byte with a raw system call, as all contestants do. The byte of Put and Get
// is on the stack, so that goroutines that call them share no cache line.
func Put(fd int) {
	var b [8]byte
	if n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b)), 1); n != 1 {
		panic(fmt.Sprintf("write of one byte to descriptor %d: %v", fd, errno))
	}
}

// Get reads one byte, which must be available.
func Get(fd int) {
	var b [8]byte
	if n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b)), 1); n != 1 {
		panic(fmt.Sprintf("read of one byte from descriptor %d: %v", fd, errno))
	}
}

// Status returns the named number from /proc/self/status.
func Status(name string) (int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if key, value, _ := bytes.Cut(line, []byte(":")); string(key) == name {
			return strconv.Atoi(string(bytes.Fields(value)[0]))
		}
	}
	return 0, fmt.Errorf("/proc/self/status does not have %s", name)
}
