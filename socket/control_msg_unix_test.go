//go:build unix

package socket_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/socket"
)

// Descriptors go through a Unix socket, and are not inherited by programs that are started.
// contract: N15
func TestMsg_PassesDescriptors(t *testing.T) {
	guard(t, ruleMsg)
	a, b := pair(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	control := unix.UnixRights(int(w.Fd()))
	n, err := a.WriteMsg([]byte("take this"), control)
	require.NoError(t, err)
	require.Equal(t, 9, n)
	require.NoError(t, w.Close())
	awaitReadable(t, b)
	buf, room := make([]byte, 64), make([]byte, unix.CmsgSpace(4*4))
	n, controlN, err := b.ReadMsg(buf, room)
	require.NoError(t, err)
	require.Equal(t, "take this", string(buf[:n]))
	fds := received(t, room[:controlN])
	require.Len(t, fds, 1)
	flags, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.NotZero(t, flags&unix.FD_CLOEXEC)
	f := os.NewFile(uintptr(fds[0]), "received")
	_, err = f.WriteString("x")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	n, err = r.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "x", string(buf[:n]))
}

// A socket that was passed is taken over.
// contract: N15
func TestMsg_PassesSockets(t *testing.T) {
	guard(t, ruleMsg)
	a, b := pair(t)
	l := listen(t, "tcp", "127.0.0.1:0")
	f := fileOf(t, l)
	raw, err := f.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		_, err := a.WriteMsg([]byte("l"), unix.UnixRights(int(fd)))
		require.NoError(t, err)
	}))
	require.NoError(t, f.Close())
	addr := l.Addr()
	require.NoError(t, l.Close())
	awaitReadable(t, b)
	room := make([]byte, unix.CmsgSpace(4))
	_, controlN, err := b.ReadMsg(make([]byte, 1), room)
	require.NoError(t, err)
	fds := received(t, room[:controlN])
	require.Len(t, fds, 1)
	taken, err := socket.FromFD(fds[0])
	require.NoError(t, err)
	closeLater(t, taken)
	require.Equal(t, addr, taken.(*socket.Listener).Addr())
}

// contract: N15
func TestMsg_ControlTruncated(t *testing.T) {
	guard(t, ruleMsg)
	a, b := pair(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	_, err = a.WriteMsg([]byte("x"), unix.UnixRights(int(r.Fd()), int(w.Fd())))
	require.NoError(t, err)
	awaitReadable(t, b)
	buf := make([]byte, 8)
	n, controlN, err := b.ReadMsg(buf, make([]byte, 4))
	require.Equal(t, socket.ErrControlTruncated, err)
	require.Equal(t, "x", string(buf[:n]))
	require.LessOrEqual(t, controlN, 4)
}

func received(t *testing.T, control []byte) []int {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(control)
	require.NoError(t, err)
	require.Len(t, messages, 1)
	fds, err := unix.ParseUnixRights(&messages[0])
	require.NoError(t, err)
	return fds
}
