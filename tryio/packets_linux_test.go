package tryio_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
	"github.com/epore/epore/tryio"
)

func packetPair(t *testing.T, kind int) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, unix.Close(fds[0]))
		require.NoError(t, unix.Close(fds[1]))
	})
	return fds[0], fds[1]
}

// However long a message is, it is written as one.
func TestWrite_LongMessagesStayWhole(t *testing.T) {
	guard(t)
	for name, kind := range map[string]int{"datagram": unix.SOCK_DGRAM, "packet": unix.SOCK_SEQPACKET} {
		t.Run(name, func(t *testing.T) {
			a, b := packetPair(t, kind)
			if err := unix.SetsockoptInt(a, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20); err != nil {
				t.Skipf("the buffer cannot be large enough: %v", err)
			}
			message := bytes.Repeat([]byte("m"), 1<<20+100)
			n, err := tryio.Write(epore.FD(a), message)
			require.NoError(t, err)
			require.Equal(t, len(message), n)
			buf := make([]byte, 2<<20)
			n, err = tryio.Read(epore.FD(b), buf)
			require.NoError(t, err)
			require.Equal(t, len(message), n)
			_, err = tryio.Read(epore.FD(b), buf)
			require.Equal(t, tryio.ErrWouldBlock, err)
		})
	}
}

// The loss of a part is reported for packets as for datagrams.
func TestRead_TruncatedPacket(t *testing.T) {
	guard(t)
	a, b := packetPair(t, unix.SOCK_SEQPACKET)
	_, err := tryio.Write(epore.FD(a), []byte("long"))
	require.NoError(t, err)
	buf := make([]byte, 2)
	n, err := tryio.Read(epore.FD(b), buf)
	require.Equal(t, socket.ErrTruncated, err)
	require.Equal(t, "lo", string(buf[:n]))
	_, err = tryio.Read(epore.FD(b), buf)
	require.Equal(t, tryio.ErrWouldBlock, err)
}
