package socket_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

const timestamps = unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_OPT_TSONLY

// queueReport puts an entry into the error queue of a connected socket: a time stamp of a
// byte that is sent past c. An ICMP error would need the rights to send one.
func queueReport(t *testing.T, fd int) {
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, timestamps))
	_, err := unix.Write(fd, []byte("x"))
	require.NoError(t, err)
	require.True(t, hasReport(t, fd), "no time stamp of the byte")
}

func hasReport(t *testing.T, fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	_, err := unix.Poll(fds, 0)
	require.NoError(t, err)
	return fds[0].Revents&unix.POLLERR != 0
}

func ignoreReports(t *testing.T, fd int) {
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, 0))
	require.True(t, hasReport(t, fd), "the report stays in the queue")
}

// The end of an attempt to connect drops what the kernel has queued meanwhile, whichever call
// notices the end.
// contract: N6
func TestDial_DropsQueuedErrors(t *testing.T) {
	for name, notice := range map[string]func(c *socket.Conn) error{
		"ConnectError": func(c *socket.Conn) error { return c.ConnectError() },
		"Write":        func(c *socket.Conn) error { return errOf(c.Write([]byte("x"))) },
		"Read that would block": func(c *socket.Conn) error {
			require.Equal(t, socket.ErrWouldBlock, errOf(c.Read(make([]byte, 1))))
			return nil
		},
		"Write after CloseWrite": func(c *socket.Conn) error {
			require.NoError(t, c.CloseWrite())
			require.ErrorIs(t, errOf(c.Write([]byte("x"))), errShut)
			return nil
		},
	} {
		eachQueue(t, "N6: an error in the queue of a healthy connection causes no events", func(t *testing.T, p *epore.Poll) {
			t.Log(name)
			l := listen(t, "tcp", "127.0.0.1:0")
			c := dial(t, "tcp", l.Addr().String())
			awaitWritable(t, c)
			fd := descriptor(t, c)
			queueReport(t, fd)
			ignoreReports(t, fd)
			require.NoError(t, notice(c))
			require.NoError(t, p.Registry().Register(c, 1, epore.Readable))
			events := epore.NewEvents(1)
			require.NoError(t, p.Poll(events, 0))
			require.Zero(t, events.Len(), "%s: an event of a connection without data", name)
			require.NoError(t, c.Close())
			require.NoError(t, l.Close())
		})
	}
}

// contract: N6
func TestDial_LeavesRequestedReports(t *testing.T) {
	guard(t, "a report that the program has asked for stays in the error queue")
	l := listen(t, "tcp", "127.0.0.1:0")
	c := dial(t, "tcp", l.Addr().String())
	awaitWritable(t, c)
	fd := descriptor(t, c)
	queueReport(t, fd)
	require.NoError(t, c.ConnectError())
	require.True(t, hasReport(t, fd))
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, 0))
}

// contract: N6
func TestFromConn_DropsQueuedErrors(t *testing.T) {
	guard(t, "an error in the queue of a connection that FromConn takes over causes no events")
	old, _ := netLink(t, "tcp", "127.0.0.1:0")
	fd := descriptor(t, old.(*net.TCPConn))
	queueReport(t, fd)
	ignoreReports(t, fd)
	c, err := socket.FromConn(old)
	require.NoError(t, err)
	closeLater(t, c)
	require.False(t, hasReport(t, descriptor(t, c)))
}
