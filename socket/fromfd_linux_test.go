package socket_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/socket"
)

// newFD makes a socket of any family, in the mode in which others make them: blocking.
func newFD(t *testing.T, domain, kind, proto int) int {
	t.Helper()
	fd, err := unix.Socket(domain, kind, proto)
	if err != nil {
		t.Skipf("no such sockets here: %v", err)
	}
	return fd
}

// A family of datagrams that package net does not know: the kernel answers a request.
// contract: N11
func TestFromFD_Netlink(t *testing.T) {
	guard(t, ruleFrom)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	require.NoError(t, err)
	taken, err := socket.FromFD(fd)
	require.NoError(t, err)
	closeLater(t, taken)
	c, ok := taken.(*socket.PacketConn)
	require.True(t, ok, "%T", taken)
	require.False(t, blocks(t, fd))
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.NotZero(t, flags&unix.FD_CLOEXEC)
	buf := make([]byte, 64<<10)
	_, err = c.Read(buf)
	require.Equal(t, socket.ErrWouldBlock, err)
	require.Nil(t, c.LocalAddr())
	// RTM_GETLINK, NLM_F_REQUEST|NLM_F_DUMP: a header and a struct rtgenmsg.
	request := make([]byte, unix.NLMSG_HDRLEN+unix.SizeofRtGenmsg)
	request[0], request[4], request[6], request[7] = byte(len(request)), unix.RTM_GETLINK, unix.NLM_F_REQUEST, unix.NLM_F_DUMP>>8
	_, err = c.Write(request)
	require.NoError(t, err)
	awaitReadable(t, c)
	n, err := c.Read(buf)
	require.NoError(t, err)
	require.Greater(t, n, unix.NLMSG_HDRLEN)
	_, err = c.Read(buf[:1])
	require.Equal(t, socket.ErrTruncated, err)
}

// A family of streams that package net does not know: on the loopback of AF_VSOCK, where
// that is to be had.
// contract: N11
func TestFromFD_Vsock(t *testing.T) {
	guard(t, ruleFrom)
	fd := newFD(t, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	if err := unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_LOCAL, Port: unix.VMADDR_PORT_ANY}); err != nil {
		t.Skipf("no loopback: %v", err)
	}
	require.NoError(t, unix.Listen(fd, 8))
	taken, err := socket.FromFD(fd)
	require.NoError(t, err)
	l := taken.(*socket.Listener)
	closeLater(t, l)
	require.Equal(t, "vsock", l.Addr().Network())
	to, err := unix.Getsockname(fd)
	require.NoError(t, err)
	client := newFD(t, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	if err := unix.Connect(client, to); err != nil {
		t.Skipf("no loopback: %v", err)
	}
	taken, err = socket.FromFD(client)
	require.NoError(t, err)
	a, b := taken.(*socket.Conn), accept(t, l)
	closeLater(t, a)
	write(t, a, "hello")
	require.Equal(t, "hello", read(t, b, 16))
	require.Equal(t, l.Addr(), a.RemoteAddr())
}

// contract: N11
func TestFromFD_OtherTypes(t *testing.T) {
	guard(t, ruleFrom)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	require.NoError(t, err)
	_, err = socket.FromFD(fds[0])
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.True(t, blocks(t, fds[0]), "it is as it was")
	require.NoError(t, unix.Close(fds[0]))
	require.NoError(t, unix.Close(fds[1]))
}
