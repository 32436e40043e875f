//go:build linux

package linux_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
	"github.com/epore/epore/internal/fixture"
)

// What is struck out of the book is out: its epoll is not to fill up.
func TestIdentities(t *testing.T) {
	var b linux.Identities
	defer b.Close()
	pipe, _ := fixture.Pipe(t)
	socket, _ := fixture.Pair(t)
	for _, e := range []*fixture.End{pipe, socket} {
		h := e.Handle()
		id, errno := b.Record(h, 0, false)
		require.Zero(t, errno)
		_, errno = b.Record(h, id, true)
		require.Equal(t, unix.EEXIST, errno)
		require.Zero(t, b.Check(h, id))
		require.Zero(t, b.Forget(h, id))
	}
	require.Equal(t, unix.ENOENT, b.Check(pipe.Handle(), linux.NotSocket))
	require.Zero(t, entries(t, &b))

	// A number that was a pipe's, or a socket's, and is a file's now.
	f := fixture.RegularFile(t)
	_, errno := b.Record(pipe.Handle(), 0, false)
	require.Zero(t, errno)
	require.Equal(t, 1, entries(t, &b))
	number := pipe.FD
	pipe.Close()
	f = f.MoveTo(number)
	require.Equal(t, unix.ENOENT, b.Check(f.Handle(), linux.NotSocket))
	_, errno = b.Record(f.Handle(), linux.NotSocket, true)
	require.Equal(t, unix.EPERM, errno)
	require.Zero(t, entries(t, &b), "closed, and so forgotten")
}

// entries counts what is in the epoll of b.
func entries(t *testing.T, b *linux.Identities) int {
	fd := 0
	for !b.Owns(backend.Handle(fd)) {
		fd++
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	require.NoError(t, err)
	return strings.Count(string(info), "tfd:")
}
