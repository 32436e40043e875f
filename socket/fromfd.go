package socket

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/epore/epore/internal/nilvalue"
)

// Socket is what a *Conn, a *Listener and a *PacketConn have in common.
type Socket interface {
	syscall.Conn
	io.Closer
	// File returns a duplicate: see [Conn.File].
	File() (*os.File, error)
}

// FromFD takes over a descriptor that the process has inherited, received or made: a
// *Listener if it listens, a *Conn if it is another stream, a *PacketConn if it has
// datagrams. On success the descriptor belongs to the Socket, does not block and is not
// inherited by other programs. After a failure it is still the caller's.
//
// The family may be any: sockets of families that package net does not know, such as
// AF_VSOCK, read and write as others do; for most of them addresses are nil. A stream that is not
// connected is taken for one that is connecting: see [Conn.ConnectError]. Sockets of the type
// SOCK_SEQPACKET, and descriptors that are not sockets, are errors.ErrUnsupported.
//
// The options of a socket stay as they are, but a TCP Listener has what it accepts begin
// with no-delay. The file of a Unix Listener stays when that is closed: see
// [Listener.SetUnlinkOnClose].
func FromFD[D ~int | ~uintptr](fd D) (Socket, error) {
	s, err := fromHandle(handle(fd))
	if err != nil {
		return nil, &net.OpError{Op: "take over", Err: fmt.Errorf("descriptor %d: %w", fd, err)}
	}
	return s, nil
}

// FromFile is [FromFD] for a socket in an *os.File, as [os.NewFile] makes it of an inherited
// descriptor. On success f is closed; the Socket has a descriptor of its own. So deregister f
// from every Poll before. After a failure f is as it was.
func FromFile(f *os.File) (Socket, error) {
	if f == nil || *f == (os.File{}) {
		return nil, errNoFile
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, &net.OpError{Op: "take over", Err: err}
	}
	var s Socket
	var failed error
	err = raw.Control(func(fd uintptr) {
		var h handle
		if _, failed = kindOf(handle(fd)); failed == nil {
			h, failed = duplicateAny(handle(fd))
		}
		if failed == nil {
			if s, failed = fromHandle(h); failed != nil {
				_ = closeNew(h)
			}
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, &net.OpError{Op: "take over", Err: fmt.Errorf("%s: %w", f.Name(), err)}
	}
	if err := f.Close(); err != nil { // somebody else was closing it
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// FromListener takes over a listener of package net: a *net.TCPListener, or a
// *net.UnixListener of network "unix". On success l is closed, but for the descriptor, which
// the new Listener has under another number, with the connections that wait to be accepted.
// So deregister l from every Poll before. After a failure l is as it was. Other kinds of
// net.Listener are errors.ErrUnsupported.
//
// The file of a Unix socket stays when the Listener is closed: see
// [Listener.SetUnlinkOnClose].
func FromListener(l net.Listener) (*Listener, error) {
	if nilvalue.Is(l) {
		return nil, errNoListener
	}
	p := tcp
	switch l := l.(type) {
	case *net.TCPListener:
	case *net.UnixListener:
		if _, err := l.SyscallConn(); err != nil { // a zero value, whose Addr panics
			return nil, &net.OpError{Op: "take over", Err: err}
		}
		p = unixStream
		if network := l.Addr().Network(); network != "unix" {
			return nil, unsupportedConn(l, "network "+network)
		}
	default:
		return nil, unsupportedConn(l, "not a plain listener: pass the *net.TCPListener or *net.UnixListener below it")
	}
	h, f, err := takeOver(netListener{l, l.(syscall.Conn)})
	if err != nil {
		return nil, err
	}
	return newListener(h, kind{proto: p, family: f}), nil
}

// netListener is a listener of package net as takeOver takes it.
type netListener struct {
	net.Listener
	syscall.Conn
}

func (l netListener) LocalAddr() net.Addr { return l.Addr() }

// Close leaves the file of a Unix socket alone.
func (l netListener) Close() error {
	if u, ok := l.Listener.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(false)
	}
	return l.Listener.Close()
}

// kind is what a descriptor turns out to be.
type kind struct {
	proto     proto
	family    family
	listening bool
}

// The types of sockets, as kindOf classifies them.
type socketType uint8

const (
	typeStream socketType = iota
	typeDatagram
	typeRaw
)

// classify chooses the protocol.
func classify(t socketType, f family, listening bool) kind {
	k := kind{family: f, listening: listening, proto: otherDatagrams}
	switch {
	case t == typeStream && f == unixDomain:
		k.proto = unixStream
	case t == typeStream && f == otherFamily:
		k.proto = otherStream
	case t == typeStream:
		k.proto = tcp
	case t == typeDatagram && f == unixDomain:
		k.proto = unixDatagram
	case t == typeDatagram && f != otherFamily:
		k.proto = udp
	}
	return k
}

// fromHandle makes h the descriptor of a Socket of its kind.
func fromHandle(h handle) (Socket, error) {
	k, err := kindOf(h)
	if err != nil {
		return nil, err
	}
	if err := prepareTaken(h); err != nil {
		return nil, err
	}
	switch {
	case k.listening:
		return newListener(h, k), nil
	case k.proto.datagrams():
		c := new(PacketConn)
		c.open(h, k.proto, k.family)
		c.connected = isConnected(h)
		return c, nil
	}
	c := newConn(h, k.proto, k.family)
	if isConnected(h) {
		dropQueuedErrors(h) // as Dial does, when the Conn is connected
	} else {
		c.connect.Store(&connectState{errInProgress, target{proto: k.proto, family: k.family}})
	}
	return c, nil
}

// newListener returns a Listener on h, which listens already.
func newListener(h handle, k kind) *Listener {
	l := new(Listener)
	l.open(h, k.proto, k.family)
	if k.proto == tcp {
		_ = setNoDelay(h, true) // package net sets it on what it accepts, and not on the listener
	}
	if a, ok := l.Addr().(*net.UnixAddr); ok && a.Name != "" && a.Name[0] != '@' {
		l.path = a.Name
	}
	return l
}

// File returns a duplicate of the socket's descriptor: to be handed to another program
// (the field ExtraFiles of os/exec), or to another process in control data. The socket stays
// as it is, and the caller closes the file. What is set on one of them, such as an option,
// is set on both.
func (b *base) File() (*os.File, error) {
	var h handle
	var name string
	err := b.do("file", func(of handle) (err error) {
		if addr := localName(of, b.proto); addr != nil {
			name = addr.String()
		}
		h, err = duplicateAny(of)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(h), b.proto.String()+":"+name), nil
}

var (
	errNotSocket  = fmt.Errorf("not a socket: %w", errors.ErrUnsupported)
	errSeqPacket  = fmt.Errorf("a socket of a type other than stream, datagram and raw: %w", errors.ErrUnsupported)
	errNoFile     = &net.OpError{Op: "take over", Err: fmt.Errorf("nil file: %w", fs.ErrInvalid)}
	errNoListener = &net.OpError{Op: "take over", Err: fmt.Errorf("nil listener: %w", fs.ErrInvalid)}
)
