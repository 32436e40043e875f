package socket

import (
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/epore/epore/internal/nilvalue"
)

// Pair returns two stream sockets that are connected to each other: Unix sockets, as from
// socketpair(2), or on Windows TCP sockets on the loopback interface.
func Pair() (a, b *Conn, err error) {
	hs, err := newPair()
	if err != nil {
		return nil, nil, &net.OpError{Op: "socketpair", Net: pairProto.String(), Err: err}
	}
	return newConn(hs[0], pairProto, pairFamily), newConn(hs[1], pairProto, pairFamily), nil
}

// FromConn takes over a connection of package net: a *net.TCPConn, or a *net.UnixConn of
// network "unix". On success it closes c, as c.Close does: do not use c any more.
// Goroutines that still read or write c get net.ErrClosed, and its deadlines no longer
// apply. The connection itself stays open under a new descriptor number, with the data that
// the system has buffered and the options that were set. Therefore deregister c from every
// Poll first. On failure c is unchanged.
//
// Other kinds of net.Conn fail with errors.ErrUnsupported. A type that wraps a connection,
// such as tls.Conn, may have buffered data, or may encrypt. Take over the wrapped connection,
// before the wrapper has read any of its data.
func FromConn(c net.Conn) (*Conn, error) {
	if nilvalue.Is(c) {
		return nil, errNilConn
	}
	var p proto
	switch c := c.(type) {
	case *net.TCPConn:
		p = tcp
	case *net.UnixConn:
		p = unixStream
		if n := networkOf(c); n != "unix" && n != "" {
			return nil, unsupportedConn(c, "not of network unix: use FromPacketConn for unixgram")
		}
	case *net.UDPConn:
		return nil, unsupportedConn(c, "datagram socket: use FromPacketConn")
	default:
		return nil, unsupportedConn(c, "not a plain connection: pass the *net.TCPConn or *net.UnixConn below it")
	}
	h, f, err := takeOver(c, c)
	if err != nil {
		return nil, err
	}
	dropQueuedErrors(h) // as Dial does, when the Conn is connected
	return newConn(h, p, f), nil
}

// FromPacketConn is like FromConn, but for datagram sockets: a *net.UDPConn, connected or
// not, or a *net.UnixConn of network "unixgram".
func FromPacketConn(c net.PacketConn) (*PacketConn, error) {
	if nilvalue.Is(c) {
		return nil, errNilConn
	}
	var p proto
	switch c := c.(type) {
	case *net.UDPConn:
		p = udp
	case *net.UnixConn:
		p = unixDatagram
		if n := networkOf(c); n != "unixgram" && n != "" {
			return nil, unsupportedConn(c, "not of network unixgram: use FromConn for unix")
		}
	default:
		return nil, unsupportedConn(c, "not a plain socket: pass the *net.UDPConn or *net.UnixConn below it")
	}
	h, f, err := takeOver(c, c)
	if err != nil {
		return nil, err
	}
	taken := new(PacketConn)
	taken.open(h, p, f)
	taken.connected = isConnected(h)
	return taken, nil
}

// netSocket has the methods that takeOver needs.
type netSocket interface {
	Close() error
	LocalAddr() net.Addr
}

// networkOf returns the name of the network of c, or "" for the zero value of a type.
func networkOf(c netSocket) string {
	if a := c.LocalAddr(); a != nil {
		return a.Network()
	}
	return ""
}

// takeOver duplicates the descriptor of c and closes c. The caller has passed it as passed.
func takeOver(c netSocket, passed any) (h handle, f family, err error) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, 0, zeroNetValue(passed, err)
	}
	var duplicated error
	err = raw.Control(func(fd uintptr) { h, f, duplicated = duplicate(handle(fd)) })
	if err == nil {
		err = duplicated
	}
	if err != nil {
		return 0, 0, &net.OpError{Op: "take over", Net: networkOf(c), Source: c.LocalAddr(), Err: err}
	}
	if err := c.Close(); err != nil { // another goroutine has closed it
		_ = closeNew(h)
		return 0, 0, err
	}
	return h, f, nil
}

// zeroNetValue returns the error of a value of package net that has no descriptor.
func zeroNetValue(v any, err error) error {
	return &net.OpError{Op: "take over", Err: fmt.Errorf("zero %T: %w", v, err)}
}

var errNilConn = &net.OpError{Op: "take over", Err: fmt.Errorf("nil connection: %w", fs.ErrInvalid)}

func unsupportedConn(c any, why string) error {
	return &net.OpError{Op: "take over", Err: fmt.Errorf("%T: %s: %w", c, why, errUnsupported)}
}
