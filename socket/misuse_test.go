//go:build unix || windows

package socket_test

import (
	"io/fs"
	"net"
	"testing"
	"time"

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
		"from a nil Conn":         errOfDial(a.SpliceFrom(nil, 1)),
		"from the Conn to itself": errOfDial(a.SpliceFrom(a, 1)),
		"-1 bytes: negative":      errOfDial(a.SpliceFrom(b, -1)),
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
		"*net.TCPConn":      errOfDial(socket.FromConn(new(net.TCPConn))),
		"*net.UnixConn":     errOfDial(socket.FromConn(new(net.UnixConn))),
		"*net.UDPConn":      errOfDial(socket.FromPacketConn(new(net.UDPConn))),
		"*net.TCPListener":  errOfDial(socket.FromListener(new(net.TCPListener))),
		"*net.UnixListener": errOfDial(socket.FromListener(new(net.UnixListener))),
	} {
		require.ErrorContains(t, err, "take over: zero "+kind+": ")
	}
	require.ErrorContains(t, errOfDial(socket.FromPacketConn(new(net.UnixConn))), "take over: zero *net.UnixConn: ")
}

// Each option is refused by the calls that it is not for.
// contract: E1, E3, N9
func TestOption_NotForThisCall(t *testing.T) {
	guard(t, "N9: an option does not vanish")
	const defers, backlog, local = "DeferAccept is only for Listen with TCP", "Backlog is only for Listen", "LocalAddr is only for Dial and DialPacket"
	type call struct {
		name string
		do   func(...socket.Option) error
	}
	listenTCP := call{"listen tcp", func(o ...socket.Option) error { return errOfDial(socket.Listen("tcp", "127.0.0.1:0", o...)) }}
	dialTCP := call{"dial tcp", func(o ...socket.Option) error { return errOfDial(socket.Dial("tcp", "127.0.0.1:1", o...)) }}
	listenUDP := call{"listen udp", func(o ...socket.Option) error { return errOfDial(socket.ListenPacket("udp", "127.0.0.1:0", o...)) }}
	dialUDP := call{"dial udp", func(o ...socket.Option) error { return errOfDial(socket.DialPacket("udp", "127.0.0.1:1", o...)) }}
	type refusal struct {
		call
		option socket.Option
		why    string
	}
	all := []refusal{
		{listenTCP, socket.DeferAccept(-1), "DeferAccept of -1ns: negative"},
		{listenTCP, socket.LocalAddr("127.0.0.1:0"), local},
		{listenUDP, socket.LocalAddr("127.0.0.1:0"), local},
	}
	for _, c := range []call{dialTCP, listenUDP, dialUDP} {
		all = append(all, refusal{c, socket.Backlog(1), backlog}, refusal{c, socket.Backlog(0), backlog},
			refusal{c, socket.DeferAccept(0), defers}, refusal{c, socket.DeferAccept(-1), defers})
	}
	if lacks("unix") == "" {
		path := socketPath(t)
		listenUnix := call{"listen unix", func(o ...socket.Option) error { return errOfDial(socket.Listen("unix", path, o...)) }}
		all = append(all, refusal{listenUnix, socket.DeferAccept(time.Second), defers})
	}
	for _, r := range all {
		err := r.do(r.option)
		require.ErrorIs(t, err, fs.ErrInvalid, "%s: %s", r.name, r.why)
		require.ErrorContains(t, err, r.name+" ")
		require.ErrorContains(t, err, r.why)
	}
	for _, o := range []socket.Option{socket.DeferAccept(0), socket.Backlog(0), socket.Backlog(-1), socket.Backlog(1 << 30), socket.Control(nil), nil} {
		l, err := socket.Listen("tcp", "127.0.0.1:0", o)
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
}
