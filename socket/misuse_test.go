//go:build unix || windows

package socket_test

import (
	"io/fs"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/socket"
)

// contract: E1, E3
func TestSpliceFrom_BadArguments(t *testing.T) {
	guard(t, "E1: an error says what was attempted on what; E3: no input waits for itself")
	a, b := connected(t, "tcp", "127.0.0.1:0")
	names := "write tcp " + a.LocalAddr().String() + "->" + a.RemoteAddr().String() + ": splice "
	write(t, b, "x")
	awaitReadable(t, a)
	for why, err := range map[string]error{
		"from a nil Conn":         onlyError(a.SpliceFrom(nil, 1)),
		"from the Conn to itself": onlyError(a.SpliceFrom(a, 1)),
		"-1 bytes: negative":      onlyError(a.SpliceFrom(b, -1)),
	} {
		require.ErrorIs(t, err, fs.ErrInvalid, why)
		require.EqualError(t, err, names+why+": invalid argument")
	}
	require.Zero(t, a.SplicePending())
	require.Equal(t, "x", read(t, a, 8), "nothing was read")
}

// contract: E1
func TestNetConn_ErrorOfAClosedConn(t *testing.T) {
	guard(t, "E1: an error says what was attempted on what")
	a, _ := connected(t, "tcp", "127.0.0.1:0")
	require.NoError(t, a.Close())
	_, err := a.NetConn()
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorContains(t, err, "hand over tcp: ")
}

// contract: E1, E3
func TestFromConn_ZeroValues(t *testing.T) {
	guard(t, "E1: an error says what was attempted on what")
	for kind, err := range map[string]error{
		"*net.TCPConn":      onlyError(socket.FromConn(new(net.TCPConn))),
		"*net.UnixConn":     onlyError(socket.FromConn(new(net.UnixConn))),
		"*net.UDPConn":      onlyError(socket.FromPacketConn(new(net.UDPConn))),
		"*net.TCPListener":  onlyError(socket.FromListener(new(net.TCPListener))),
		"*net.UnixListener": onlyError(socket.FromListener(new(net.UnixListener))),
	} {
		require.ErrorContains(t, err, "take over: zero "+kind+": ")
	}
	require.ErrorContains(t, onlyError(socket.FromPacketConn(new(net.UnixConn))), "take over: zero *net.UnixConn: ")
}

func onlyError[T any](_ T, err error) error { return err }
