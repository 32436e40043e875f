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
	"github.com/epore/epore/internal/simfd"
)

// Socket is what a *Conn, a *Listener and a *PacketConn have in common.
type Socket interface {
	syscall.Conn
	io.Closer
	// File returns a duplicate: see [Conn.File].
	File() (*os.File, error)
}

// FromFD takes over a descriptor that the process has inherited, received or created. It
// returns a *Listener if the socket listens, a *Conn if it is another stream, and a
// *PacketConn if it is a datagram socket. On success the descriptor belongs to the Socket, and
// is non-blocking and close-on-exec. On failure it still belongs to the caller.
//
// The socket may be of any family. Sockets of a family that package net does not know, such as
// AF_VSOCK, read and write like others; for most of these families the addresses are nil. A
// stream that is not connected counts as one that is connecting: see [Conn.ConnectError].
// Sockets of the type SOCK_SEQPACKET, and descriptors that are not sockets, fail with
// errors.ErrUnsupported.
//
// FromFD does not change the options of the socket, except that it sets TCP_NODELAY of a TCP
// listener, for the connections that it accepts. Close does not remove the file of a Unix
// listener, unless [Listener.SetUnlinkOnClose] says so.
func FromFD[D ~int | ~uintptr](fd D) (Socket, error) {
	s, err := fromHandle(handle(fd))
	if err != nil {
		return nil, &net.OpError{Op: "take over", Err: fmt.Errorf("descriptor %d: %w", fd, err)}
	}
	return s, nil
}

// FromFile is like [FromFD], for a socket in an *os.File. On success f is closed, and the
// Socket has another descriptor. Therefore deregister f from every Poll first. On failure f
// is unchanged.
func FromFile(f *os.File) (Socket, error) {
	if f == nil || *f == (os.File{}) {
		return nil, errNoFile
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, &net.OpError{Op: "take over", Err: fmt.Errorf("%s: %w", f.Name(), err)}
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
// *net.UnixListener of network "unix". On success l is closed. The socket itself stays open
// under a new descriptor number, with the connections that wait to be accepted. Therefore
// deregister l from every Poll first. On failure l is unchanged. Other kinds of net.Listener
// fail with errors.ErrUnsupported.
//
// Close does not remove the file of a Unix listener, unless [Listener.SetUnlinkOnClose] says
// so.
func FromListener(l net.Listener) (*Listener, error) {
	if nilvalue.Is(l) {
		return nil, errNoListener
	}
	p := tcp
	switch l := l.(type) {
	case *net.TCPListener:
	case *net.UnixListener:
		if _, err := l.SyscallConn(); err != nil { // a zero value, whose Addr panics
			return nil, zeroNetValue(l, err)
		}
		p = unixStream
		if network := l.Addr().Network(); network != "unix" {
			return nil, unsupportedConn(l, "network "+network)
		}
	default:
		return nil, unsupportedConn(l, "not a plain listener: pass the *net.TCPListener or *net.UnixListener below it")
	}
	h, f, err := takeOver(netListener{l, l.(syscall.Conn)}, l)
	if err != nil {
		return nil, err
	}
	return newListener(h, kind{proto: p, family: f}), nil
}

// netListener gives a listener of package net the methods that takeOver needs.
type netListener struct {
	net.Listener
	syscall.Conn
}

func (l netListener) LocalAddr() net.Addr { return l.Addr() }

// Close does not remove the file of a Unix socket.
func (l netListener) Close() error {
	if u, ok := l.Listener.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(false)
	}
	return l.Listener.Close()
}

// kind is what the system says that a descriptor is.
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

// fromHandle returns a Socket on h.
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
		_ = setNoDelay(h, true) // package net sets it only on accepted connections
	}
	if a, ok := l.Addr().(*net.UnixAddr); ok && a.Name != "" && a.Name[0] != '@' {
		l.path = a.Name
	}
	return l
}

// File returns a duplicate of the descriptor, for another program (the field ExtraFiles of
// [os/exec.Cmd]) or another process ([Conn.WriteMsg]). The socket is unchanged, and the
// caller closes the file. Options that are set on one of them apply to both.
func (b *base) File() (*os.File, error) {
	var h handle
	var name string
	err := b.do("file", func(of handle) (err error) {
		if simfd.Is(of) {
			return fmt.Errorf("the descriptor of a simulated socket: %w", errors.ErrUnsupported)
		}
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
