package socket

import (
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/epore/epore/internal/nilvalue"
)

// Pair returns two stream sockets that are connected with each other: Unix ones, as of
// socketpair(2), or on Windows TCP ones on the loopback interface.
func Pair() (a, b *Conn, err error) {
	hs, err := newPair()
	if err != nil {
		return nil, nil, &net.OpError{Op: "socketpair", Net: pairProto.String(), Err: err}
	}
	return newConn(hs[0], pairProto, pairFamily), newConn(hs[1], pairProto, pairFamily), nil
}

// FromConn takes a connection of package net over: a *net.TCPConn, or a *net.UnixConn
// of network "unix". On success c is closed, as if by its Close: nobody may use it any
// more, who still reads or writes it gets net.ErrClosed, and its deadlines are gone; the
// connection itself stays, under a new descriptor number, with what the system has
// buffered and the options that were set. So deregister c from every Poll before. After a
// failure c is as it was.
//
// Other kinds of net.Conn are refused (errors.ErrUnsupported). They may have read more
// than they gave away, or encrypt: tls.Conn, and what wraps a connection. Take over the
// one below before any of its data was read by another.
func FromConn(c net.Conn) (*Conn, error) {
	if nilvalue.Is(c) {
		return nil, errNoConn
	}
	var p proto
	switch c := c.(type) {
	case *net.TCPConn:
		p = tcp
	case *net.UnixConn:
		p = unixStream
		if network := c.LocalAddr().Network(); network != "unix" {
			return nil, notTaken(c, "of network "+network+": see FromPacketConn for unixgram")
		}
	case *net.UDPConn:
		return nil, notTaken(c, "it has datagrams: use FromPacketConn")
	default:
		return nil, notTaken(c, "only a *net.TCPConn or a *net.UnixConn is nothing but its descriptor")
	}
	h, f, err := takeOver(c)
	if err != nil {
		return nil, err
	}
	return newConn(h, p, f), nil
}

// FromPacketConn is FromConn for datagrams: a *net.UDPConn, connected or not, or a
// *net.UnixConn of network "unixgram".
func FromPacketConn(c net.PacketConn) (*PacketConn, error) {
	if nilvalue.Is(c) {
		return nil, errNoConn
	}
	var p proto
	switch c := c.(type) {
	case *net.UDPConn:
		p = udp
	case *net.UnixConn:
		p = unixDatagram
		if network := c.LocalAddr().Network(); network != "unixgram" {
			return nil, notTaken(c, "of network "+network+": see FromConn for unix")
		}
	default:
		return nil, notTaken(c, "only a *net.UDPConn or a *net.UnixConn is nothing but its descriptor")
	}
	h, f, err := takeOver(c)
	if err != nil {
		return nil, err
	}
	taken := new(PacketConn)
	taken.open(h, p, f)
	taken.connected = isConnected(h)
	return taken, nil
}

// netSocket is what FromConn and FromPacketConn take.
type netSocket interface {
	Close() error
	LocalAddr() net.Addr
}

// takeOver duplicates the descriptor of c and closes c.
func takeOver(c netSocket) (h handle, f family, err error) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, 0, &net.OpError{Op: "take over", Err: err}
	}
	var duplicated error
	err = raw.Control(func(fd uintptr) { h, f, duplicated = duplicate(handle(fd)) })
	if err == nil {
		err = duplicated
	}
	if err != nil {
		return 0, 0, &net.OpError{Op: "take over", Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Err: err}
	}
	if err := c.Close(); err != nil { // somebody else was closing it
		_ = closeNew(h)
		return 0, 0, err
	}
	return h, f, nil
}

var errNoConn = &net.OpError{Op: "take over", Err: fmt.Errorf("there is no connection: %w", fs.ErrInvalid)}

func notTaken(c any, why string) error {
	return &net.OpError{Op: "take over", Err: fmt.Errorf("%T: %s: %w", c, why, errUnsupported)}
}
