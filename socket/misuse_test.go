//go:build unix || windows

package socket_test

import (
	"fmt"
	"io/fs"
	"net"
	"runtime"
	"strings"
	"syscall"
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

// contract: E1, N4
func TestSockets_ZeroValueNamesNoProtocol(t *testing.T) {
	guard(t, "E1: the error of a zero value says that it is one")
	_, read := new(socket.Conn).Read(make([]byte, 1))
	_, accept := new(socket.Listener).Accept()
	_, receive := new(socket.PacketConn).Read(make([]byte, 1))
	_, from, receiveFrom := new(socket.PacketConn).ReadFrom(make([]byte, 1))
	require.Nil(t, from)
	_, raw := new(socket.PacketConn).SyscallConn()
	for want, err := range map[string]error{
		"read":        read,
		"accept":      accept,
		"read ":       receive,
		"read  ":      receiveFrom,
		"raw-control": raw,
		"close":       new(socket.Listener).Close(),
	} {
		require.ErrorIs(t, err, net.ErrClosed)
		require.ErrorContains(t, err, strings.TrimSpace(want)+": zero value: ")
	}
	a, _ := pair(t)
	require.NoError(t, a.Close())
	_, err := a.Read(make([]byte, 1))
	require.NotContains(t, err.Error(), "zero value")
}

// contract: E1
func TestListen_EmptyNetwork(t *testing.T) {
	guard(t, "E1: an error says what is wrong")
	for op, err := range map[string]error{
		"listen": errOfDial(socket.Listen("", "127.0.0.1:0")),
		"dial":   errOfDial(socket.DialPacket("", "127.0.0.1:1")),
	} {
		var unknown net.UnknownNetworkError
		require.ErrorAs(t, err, &unknown)
		require.EqualError(t, err, op+`: unknown network "": use "tcp", "udp", "unix" or "unixgram"`)
	}
	require.ErrorContains(t, errOfDial(socket.Listen("sctp", "127.0.0.1:0")), "unknown network sctp")
}

// The system says "invalid argument".
// contract: E1
func TestListen_UnixPathTooLong(t *testing.T) {
	need(t, "unix")
	guard(t, "E1: an error says what is wrong")
	path := "/" + strings.Repeat("a", 2000) // of the systems, AIX has room for most: 1023
	all := map[string]error{
		"listen unix": errOfDial(socket.Listen("unix", path)),
		"dial unix":   errOfDial(socket.Dial("unix", path)),
		"local":       errOfDial(socket.Dial("unix", path[:2], socket.LocalAddr(path))),
	}
	if lacks("unixgram") == "" {
		all["listen unixgram"] = errOfDial(socket.ListenPacket("unixgram", path))
		all["dial unixgram"] = errOfDial(socket.DialPacket("unixgram", path))
		c, err := socket.ListenPacket("unixgram", socketPath(t))
		require.NoError(t, err)
		closeLater(t, c)
		_, err = c.WriteTo([]byte("x"), &net.UnixAddr{Name: path, Net: "unixgram"})
		all["write unixgram"] = err
	}
	for call, err := range all {
		require.ErrorIs(t, err, syscall.EINVAL, call)
		require.ErrorContains(t, err, "path of 2001 bytes is too long for a Unix socket", call)
	}
	if runtime.GOOS == "linux" {
		for name, room := range map[string]int{"/": 107, "@": 108} {
			full := name + strings.Repeat("a", room-1)
			_, err := socket.Listen("unix", full+"a")
			require.ErrorContains(t, err, fmt.Sprintf("path of %d bytes is too long for a Unix socket: at most %d", room+1, room))
		}
		l, err := socket.Listen("unix", "@"+strings.Repeat("a", 107))
		require.NoError(t, err, "108 bytes fit")
		require.NoError(t, l.Close())
	}
}
