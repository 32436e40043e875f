//go:build linux

package linux_test

import (
	"fmt"
	"os"
	"os/exec"
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
