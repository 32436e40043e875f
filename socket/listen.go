package socket

import (
	"net"
	"os"
	"sync/atomic"

	"github.com/epore/epore/backend"
)

// Listener accepts connections, and never blocks. It is an epore.Source, readable when
// there is one to accept. All methods may be called from any goroutine.
type Listener struct {
	base
	path   string // of a Unix socket with a file
	unlink atomic.Bool
}

// Listen listens on an address: network is "tcp", "tcp4", "tcp6" or "unix". Addresses
// are those of [net.Listen] with literal IPs: "127.0.0.1:80", "[::1]:80",
// "[fe80::1%eth0]:80", ":80" for all addresses, of IPv4 and IPv6 where the system has
// both, port 0 or none for a free one ([Listener.Addr] tells). A host or service name is
// refused: resolve it first, which may block. A Unix socket has a path, or on Linux
// "@name" in the abstract namespace.
func Listen(network, address string, opts ...Option) (*Listener, error) {
	t, err := parse("listen", network, address, false, true)
	if err != nil {
		return nil, err
	}
	o := apply(opts)
	l := new(Listener)
	err = t.open(&l.base, func(h handle) error {
		if err := prepareListener(h, &t, &o); err != nil {
			return err
		}
		if err := bind(h, &t); err != nil {
			return err
		}
		if err := listen(h, o.backlog); err != nil {
			return err
		}
		if o.deferAccept > 0 {
			return setDeferAccept(h, seconds(o.deferAccept, 0))
		}
		return nil
	})
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Source: nil, Addr: t.addr(), Err: err}
	}
	if t.family == local && t.path != "" && t.path[0] != '@' {
		l.path = t.path
		l.unlink.Store(true)
	}
	return l, nil
}

// prepareListener sets what has to be set before an address is bound.
func prepareListener(h handle, t *target, o *options) error {
	if t.proto == tcp {
		if err := setReuseAddr(h); err != nil {
			return err
		}
		if err := setNoDelay(h, true); err != nil { // most systems pass it on to what is accepted
			return err
		}
	}
	if o.reusePort {
		return setReusePort(h)
	}
	return nil
}

// open makes a socket for the target, and b own it once setup has succeeded.
func (t *target) open(b *base, setup func(h handle) error) error {
	h, err := newSocket(t)
	if err != nil {
		return err
	}
	b.open(h, t.proto, t.family)
	if err := setup(h); err != nil {
		_ = b.Close()
		return err
	}
	return nil
}

// Accept returns the next connection, or ErrWouldBlock when there is none. Connections
// that were given up before they were accepted are passed over.
//
// Out of descriptors (syscall.EMFILE, syscall.ENFILE) the Listener stays as it is, and
// the connection waits. Level-triggered, its event would repeat at once: deregister the
// Listener until a connection of yours is closed, as examples/echo does, or reset those
// that matter least. Edge-triggered, call Accept again by then: no further event is
// certain before it returned ErrWouldBlock.
func (l *Listener) Accept() (*Conn, error) {
	d := l.own()
	if !d.Acquire() {
		return nil, l.closed("accept")
	}
	defer d.Release()
	h, err := sysAccept(d.Handle())
	if err == ErrWouldBlock {
		return nil, l.wouldBlock(backend.Readable)
	}
	if err != nil {
		return nil, l.failed("accept", err)
	}
	c := newConn(h, l.proto, l.family)
	if l.proto == tcp && !inheritsNoDelay {
		_ = setNoDelay(h, true) // fails for one that is reset already, which reading tells
	}
	return c, nil
}

// Close closes the Listener as [Conn.Close] does, and removes the file of a Unix socket
// that Listen has made. Connections that wait to be accepted are reset.
func (l *Listener) Close() error {
	if l.unlink.Swap(false) { // first: later, it may be the file of somebody else
		_ = os.Remove(l.path)
	}
	return l.base.Close()
}

// SetUnlinkOnClose says whether Close removes the file of a Unix socket; it does unless
// told otherwise.
func (l *Listener) SetUnlinkOnClose(unlink bool) { l.unlink.Store(unlink && l.path != "") }

// Addr returns the address that the Listener listens on, asked of the system: a
// *net.TCPAddr or *net.UnixAddr. It is nil when the Listener is closed.
func (l *Listener) Addr() net.Addr { return l.named(localName) }
