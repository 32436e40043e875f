//go:build linux

package linux_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
	"github.com/epore/epore/internal/fixture"
)

// Forget removes the record, so that the epoll instance does not fill up.
func TestIdentities_RecordAndForget(t *testing.T) {
	var ids linux.Identities
	defer ids.Close()
	pipe, _ := fixture.Pipe(t)
	socket, _ := fixture.Pair(t)
	for _, e := range []*fixture.End{pipe, socket} {
		h := e.Handle()
		id, errno := ids.Record(h, 0, false)
		require.Zero(t, errno)
		_, errno = ids.Record(h, id, true)
		require.Equal(t, unix.EEXIST, errno)
		require.Zero(t, ids.Check(h, id))
		require.Zero(t, ids.Forget(h, id))
	}
	require.Equal(t, unix.ENOENT, ids.Check(pipe.Handle(), linux.NotSocket))
	require.Zero(t, entries(t, &ids))

	// A number that was a pipe's is a regular file's now.
	f := fixture.RegularFile(t)
	_, errno := ids.Record(pipe.Handle(), 0, false)
	require.Zero(t, errno)
	require.Equal(t, 1, entries(t, &ids))
	number := pipe.FD
	pipe.Close()
	f = f.MoveTo(number)
	require.Equal(t, unix.ENOENT, ids.Check(f.Handle(), linux.NotSocket))
	_, errno = ids.Record(f.Handle(), linux.NotSocket, true)
	require.Equal(t, unix.EPERM, errno)
	require.Zero(t, entries(t, &ids), "the kernel removes the entry of a closed file")
}

// entries counts the entries in the epoll instance of ids.
func entries(t *testing.T, ids *linux.Identities) int {
	fd := 0
	for !ids.Owns(backend.Handle(fd)) {
		fd++
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	require.NoError(t, err)
	return strings.Count(string(info), "tfd:")
}

// envNoCookie makes TestIdentities_WithoutSocketCookie the program without SO_COOKIE.
const envNoCookie = "EPORE_TEST_NO_SO_COOKIE"

// Without SO_COOKIE sockets are still told apart, also those that were recorded before a
// filter took it away.
// contract: R7
func TestIdentities_WithoutSocketCookie(t *testing.T) {
	if os.Getenv(envNoCookie) == "" {
		self := exec.Command(os.Args[0], "-test.run=^TestIdentities_", "-test.v")
		self.Env = append(os.Environ(), envNoCookie+"=1")
		out, err := self.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	var ids linux.Identities
	defer ids.Close()
	early, _ := fixture.Pair(t)
	earlyID, errno := ids.Record(early.Handle(), 0, false)
	require.Zero(t, errno)
	if err := fixture.DenyOption(unix.SO_COOKIE, unix.ENOPROTOOPT); err != nil {
		t.Skipf("this system does not let getsockopt(2) fail: %v", err)
	}
	_, err := unix.GetsockoptUint64(early.FD, unix.SOL_SOCKET, unix.SO_COOKIE)
	require.Equal(t, unix.ENOPROTOOPT, err)

	require.Zero(t, ids.Check(early.Handle(), earlyID))
	_, errno = ids.Record(early.Handle(), earlyID, true)
	require.Equal(t, unix.EEXIST, errno)

	a, _ := fixture.TCPPair(t)
	h := a.Handle()
	id, errno := ids.Record(h, 0, false)
	require.Zero(t, errno)
	require.Zero(t, ids.Check(h, id))
	number := a.FD
	a.Close()
	require.Equal(t, unix.EBADF, ids.Check(h, id))
	fixture.PairAt(t, number)
	require.Equal(t, unix.ENOENT, ids.Check(h, id))
	next, errno := ids.Record(h, id, true)
	require.Zero(t, errno, "it is another socket")
	require.NotEqual(t, id, next)
	TestIdentities_RecordAndForget(t)
}

// A file that is not known to keep its state counts as consumed by polling.
// contract: R16
func TestConsumed(t *testing.T) {
	pipe, _ := fixture.Pipe(t)
	fifo, _ := fixture.FIFO(t)
	pair, _ := fixture.Pair(t)
	udp, _ := fixture.UDPPair(t)
	master, slave := fixture.Terminal(t)
	fds := map[string]int{
		"pipe": pipe.FD, "FIFO": fifo.FD, "stream": pair.FD, "datagram": udp.FD,
		"master of a terminal": master.FD, "terminal": slave.FD, "eventfd": fixture.Eventfd(t).FD,
	}
	add := func(name string, fd int, err error) {
		if err != nil {
			t.Logf("no %s here: %v", name, err)
			return
		}
		fds[name] = fd
		t.Cleanup(func() { unix.Close(fd) })
	}
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	add("timerfd", fd, err)
	fd, err = unix.InotifyInit1(unix.IN_CLOEXEC)
	add("inotify", fd, err)
	fd, err = unix.Signalfd(-1, &unix.Sigset_t{}, unix.SFD_CLOEXEC)
	add("signalfd", fd, err)
	fd, err = unix.PidfdOpen(os.Getpid(), 0)
	add("pidfd", fd, err)
	fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	add("epoll", fd, err)
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	add("netlink", fd, err)
	for name, fd := range fds {
		is, errno := linux.Consumed(backend.Handle(fd))
		require.Zero(t, errno, name)
		require.False(t, is, name)
	}
	for _, name := range []string{"/proc/self/mounts", "/proc/mdstat", "/proc/swaps", "/proc/pressure/cpu", "/dev/kmsg"} {
		f, err := os.Open(name)
		if err != nil {
			t.Logf("no %s here: %v", name, err)
			continue
		}
		is, errno := linux.Consumed(backend.Handle(f.Fd()))
		require.Zero(t, errno, name)
		require.True(t, is, name)
		require.NoError(t, f.Close())
	}
	_, errno := linux.Consumed(backend.Handle(1<<31 - 1))
	require.Equal(t, unix.EBADF, errno)
}

// Recording a file does not poll it.
// contract: R16
func TestIdentities_PollNothingAway(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with its mounts
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skipf("no mounts to change here: %v", err)
	}
	require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	fd, err := unix.Open("/proc/thread-self/mounts", unix.O_RDONLY|unix.O_CLOEXEC, 0) // os.Open polls it
	require.NoError(t, err)
	defer unix.Close(fd)
	dir := t.TempDir()
	require.NoError(t, unix.Mount("none", dir, "tmpfs", 0, ""))
	defer func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
	var ids linux.Identities
	defer ids.Close()
	h := backend.Handle(fd)
	id, errno := ids.Record(h, 0, false)
	require.Zero(t, errno)
	require.True(t, id.Consumed())
	require.False(t, id.IsSocket())
	_, errno = ids.Record(h, id, true)
	require.Equal(t, unix.EEXIST, errno)
	require.Zero(t, ids.Check(h, id))
	require.Zero(t, ids.Forget(h, id))
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(h), Events: unix.POLLPRI}}, 0)
	require.NoError(t, err)
	require.Equal(t, 1, n, "it still says so")

	file := fixture.RegularFile(t)
	_, errno = ids.Record(file.Handle(), id, true)
	require.Equal(t, unix.EPERM, errno)
	require.Equal(t, unix.ENOENT, ids.Check(file.Handle(), id))
}
