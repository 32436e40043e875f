package socket

import (
	"net"
	"os"
	"sync/atomic"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/simfd"
)

// Listener accepts connections, and never blocks. It is an epore.Source that is readable
// when a connection waits to be accepted. All methods may be called from any goroutine.
type Listener struct {
	base
	path    string // of a Unix socket with a file
	unlink  atomic.Bool
	closing atomic.Bool
}

// Listen listens on an address. The network is "tcp", "tcp4", "tcp6" or "unix".
//
// Addresses are those of [net.Listen] with literal IPs: "127.0.0.1:80", "[::1]:80",
// "[fe80::1%eth0]:80". ":80" means all addresses, of both IPv4 and IPv6 where the system
// supports sockets for both (OpenBSD and DragonFly do not: there ":80" means IPv4, and
// "[::]:80" IPv6). Port 0, or no port, lets the system choose a free one ([Listener.Addr]
// returns it). The address of a Unix socket is a path, or on Linux "@name" in the abstract
// namespace.
//
// A host or service name is an error, because resolving it may block: resolve it first.
func Listen(network, address string, opts ...Option) (*Listener, error) {
	t, err := parse("listen", network, address, false, true)
	if err != nil {
		return nil, err
	}
	o := apply(opts)
	l := new(Listener)
	err = t.open(&l.base, func(h handle) error {
		if err := o.check(&t, true); err != nil {
			return err
		}
		if err := prepareListener(h, &t, &o); err != nil {
			return err
		}
		if err := o.callControl(&l.base, &t); err != nil {
			return err
		}
		if err := bind(h, &t); err != nil {
			return err
		}
		if err := listen(h, o.listenBacklog()); err != nil {
			return err
		}
		if d := o.deferring(); d > 0 {
			return setDeferAccept(h, seconds(d, 0))
		}
		return nil
	})
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Source: nil, Addr: t.addr(), Err: err}
	}
	if t.family == unixDomain && t.path != "" && t.path[0] != '@' {
		l.path = t.path
		l.unlink.Store(true)
	}
	return l, nil
}

// prepareListener sets the options that must be set before bind.
func prepareListener(h handle, t *target, o *options) error {
	if t.proto == tcp {
		if err := setReuseAddr(h); err != nil {
			return err
		}
		if err := setNoDelay(h, true); err != nil { // on most systems, accepted connections inherit it
			return err
		}
	}
	if o.reusePort {
		return setReusePort(h)
	}
	return nil
}

// open creates a socket for the target, calls setup with it, and makes it the descriptor of
// b. It closes the socket if setup fails.
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

// Accept returns the next connection, or ErrWouldBlock if none waits. It skips connections
// that the peer gave up before they were accepted.
//
// When descriptors run out (syscall.EMFILE, syscall.ENFILE), the Listener stays usable and
// the connection keeps waiting. With level-triggered interest the event would repeat at once:
// deregister the Listener until you have closed a connection, as package loop does, or reset
// the connections that matter least. With edge-triggered interest, call Accept again after
// you have closed a connection: no further event is certain before Accept has returned
// ErrWouldBlock.
func (l *Listener) Accept() (*Conn, error) {
	d := l.descriptor()
	if !d.Acquire() {
		return nil, l.closed("accept")
	}
	defer d.Release()
	h, err := accept(d.Handle())
	if err == ErrWouldBlock {
		return nil, l.wouldBlock(backend.Readable)
	}
	if err != nil {
		return nil, l.failed("accept", err)
	}
	c := newConn(h, l.proto, l.family)
	if l.proto == tcp && !simfd.Is(h) {
		acceptedNoDelay.ensure(h)
	}
	return c, nil
}

// acceptedNoDelay is what is known about accepted connections: most kernels let them inherit
// TCP_NODELAY from the listener, but no manual says so. So the first one is asked.
var acceptedNoDelay inheritance

type inheritance struct{ state atomic.Uint32 }

// The values of inheritance.state.
const (
	notAsked = iota
	inherited
	notInherited
)

// ensure sets TCP_NODELAY of an accepted connection, unless it inherits the option. Errors are
// those of a connection that is reset already, which reading reports.
func (i *inheritance) ensure(h handle) {
	state := i.state.Load()
	if state == notAsked {
		on, err := getNoDelay(h)
		switch {
		case err != nil: // the next one may tell
		case on:
			state = inherited
		default:
			state = notInherited
		}
		i.state.Store(state)
	}
	if state != inherited {
		_ = setNoDelay(h, true)
	}
}

// Close closes the Listener as [Conn.Close] does, and removes the file of a Unix socket that
// Listen has created. Connections that wait to be accepted are reset.
func (l *Listener) Close() error {
	if l.closing.Swap(true) {
		return l.closed("close") // the file may belong to another listener by now
	}
	if l.unlink.Load() { // before closing, for the same reason
		_ = os.Remove(l.path)
	}
	return l.base.Close()
}

// SetUnlinkOnClose sets whether Close removes the file of a Unix socket. By default Close
// removes it. After Close, SetUnlinkOnClose has no effect.
func (l *Listener) SetUnlinkOnClose(unlink bool) { l.unlink.Store(unlink && l.path != "") }

// Addr returns the address that the Listener listens on, a *net.TCPAddr or *net.UnixAddr. It
// asks the system each time. It returns nil if the Listener is closed.
func (l *Listener) Addr() net.Addr { return l.address(localAddress) }
