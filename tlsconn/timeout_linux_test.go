package tlsconn_test

import (
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
	"github.com/epore/epore/tlsconn"
)

// ETIMEDOUT is Temporary in package syscall, so crypto/tls would read on; and the system
// tells it once, after which the stream seems to end.
// contract: T5
func TestConn_TimedOutSocketStaysSo(t *testing.T) {
	guard(t, "an error of the socket is final, whatever it says of itself")
	sock, peer := tcp(t)
	c := tlsconn.Client(sock, clientConfig(tls.VersionTLS13))
	established := make(chan error, 1)
	go func() { established <- tls.Server(peer, serverConfig(tls.VersionTLS13)).Handshake() }()
	raw, err := sock.SyscallConn()
	require.NoError(t, err)
	var fd int
	require.NoError(t, raw.Control(func(d uintptr) { fd = int(d) }))
	require.NoError(t, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 50))
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 64<<10))
	for c.Handshake() == socket.ErrWouldBlock {
		if c.Buffered() == 0 {
			fixture.AwaitReadable(t, fd)
		}
	}
	require.NoError(t, <-established)
	require.NoError(t, sock.ConnectError()) // asked once, it no longer takes errors for its own
	_, err = read(t, c, 64)
	require.Equal(t, socket.ErrWouldBlock, err)

	// The peer does not read: its window closes, and after a while the kernel gives up.
	_, err = c.Write(make([]byte, 8<<20))
	require.NoError(t, err)
	require.NotZero(t, c.Buffered())
	fixture.AwaitReadable(t, fd)
	for range 3 {
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, unix.ETIMEDOUT)
	}
}
