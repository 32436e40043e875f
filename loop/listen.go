package loop

import (
	"crypto/tls"
	"net"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
	"github.com/epore/epore/tlsconn"
)

const (
	// acceptMost is how many connections are accepted before others get their turn.
	acceptMost = 64
	// resumeAfter is how long nothing is accepted after that failed, unless a connection
	// ends before.
	resumeAfter = 100 * time.Millisecond
)

// listener is a source of connections.
type listener struct {
	sock    *socket.Listener
	token   epore.Token
	paused  bool
	members []member // they get the connections in turn; mostly there is one, this loop
	turn    int
	group   *group
}

// member is a loop that gets connections of a listener.
type member struct {
	loop    *Loop
	tls     *tls.Config
	handler Handler
}

// address is what several loops call Listen with: the nth call of a loop for it.
type address struct {
	network, addr string
	nth           int
}

// sharedListener is the listeners of several loops on one address.
type sharedListener struct {
	addr  net.Addr
	first *listener // where this one deals out the connections
}

// spreads reports whether connections are spread over listeners with SO_REUSEPORT.
// The other systems that have the option give all of them to one.
func (l *Loop) spreads(network string) bool {
	if _, ok := l.cfg.Network.(system); !ok {
		return false
	}
	switch runtime.GOOS {
	case "linux", "android", "freebsd", "dragonfly":
		return strings.HasPrefix(network, "tcp")
	}
	return false
}

// Listen accepts connections on an address and serves them with h; over TLS if t is not nil. It
// fails if t has no certificate: no Certificates, GetCertificate or GetConfigForClient.
//
// The arguments network and addr are those of [socket.Listen]. Listen returns the address, for
// example to find the port if 0 was given.
//
// If several loops of a Run listen on the same address, their connections are distributed.
// Where the system distributes TCP connections among listeners (SO_REUSEPORT on Linux, FreeBSD
// and DragonFly), each loop has a listener. Elsewhere, and for Unix sockets, one loop accepts
// the connections and passes them to all loops in turn. A loop that listens on an address twice
// gets the error of the system (EADDRINUSE), whatever the number of loops.
//
// When the loop has MaxConns connections, or accepting fails because descriptors ran out, the
// loop pauses accepting until a connection ends or 100 ms have passed. Clients wait, and none
// is lost.
func (l *Loop) Listen(network, addr string, t *tls.Config, h Handler) (net.Addr, error) {
	if err := l.serves(t, h); err != nil {
		return nil, refused("listen", network, named{network, addr}, err)
	}
	if l.group.size == 1 {
		sock, err := l.cfg.Network.Listen(network, addr)
		if err != nil {
			return nil, err
		}
		return sock.Addr(), l.Serve(sock, t, h)
	}
	if l.asked == nil {
		l.asked = make(map[[2]string]int)
	}
	key := address{network, addr, l.asked[[2]string{network, addr}]}
	at, err := l.listenShared(key, t, h)
	if err == nil {
		l.asked[[2]string{network, addr}]++
	}
	return at, err
}

// listenShared is Listen where other loops may do the same.
func (l *Loop) listenShared(key address, t *tls.Config, h Handler) (net.Addr, error) {
	l.group.sharedMu.Lock()
	defer l.group.sharedMu.Unlock()
	shared := l.group.shared[key]
	if shared != nil && shared.first != nil {
		shared.first.members = append(shared.first.members, member{l, t, h})
		return shared.addr, nil
	}
	var opts []socket.Option
	addr := key.addr
	if l.spreads(key.network) {
		opts = append(opts, socket.ReusePort())
		if shared != nil { // the port was 0 perhaps, and this is the one that was found
			addr = shared.addr.String()
		}
	}
	sock, err := l.cfg.Network.Listen(key.network, addr, opts...)
	if err != nil {
		return nil, err
	}
	if l.listens(sock.Addr()) { // which the system allows with SO_REUSEPORT
		_ = sock.Close()
		if sock, err = l.cfg.Network.Listen(key.network, addr); err != nil {
			return nil, err
		}
	}
	if err := l.Serve(sock, t, h); err != nil {
		return nil, err
	}
	if shared == nil {
		shared = &sharedListener{addr: sock.Addr()}
		if !l.spreads(key.network) {
			shared.first = l.listeners[len(l.listeners)-1]
		}
		l.group.shared[key] = shared
	}
	return shared.addr, nil
}

// listens reports whether this loop has a listener on that address.
func (l *Loop) listens(addr net.Addr) bool {
	return slices.ContainsFunc(l.listeners, func(ls *listener) bool {
		have := ls.sock.Addr()
		return have != nil && have.Network() == addr.Network() && have.String() == addr.String()
	})
}

// Serve accepts connections from sock and serves them on this loop with h; over TLS if t is
// not nil, which needs a certificate as for Listen. The loop owns sock, and closes it when the
// loop ends or when Serve fails.
func (l *Loop) Serve(sock *socket.Listener, t *tls.Config, h Handler) error {
	if sock == nil {
		return refusedSocket("serve", nil, errNoSocket)
	}
	err := l.serves(t, h)
	if err != nil {
		err = refusedSocket("serve", sock.Addr(), err)
	} else {
		ls := &listener{sock: sock, token: firstListener + epore.Token(len(l.listeners)), members: []member{{l, t, h}}, group: l.group}
		if err = l.poll.Registry().Register(sock, ls.token, epore.Readable); err == nil {
			l.listeners = append(l.listeners, ls)
			return nil
		}
	}
	_ = sock.Close()
	return err
}

// serves returns an error if no connections can be served over t with h. Without a certificate,
// each handshake would fail.
func (l *Loop) serves(t *tls.Config, h Handler) error {
	if err := l.usable(h); err != nil {
		return err
	}
	if t != nil && len(t.Certificates) == 0 && t.GetCertificate == nil && t.GetConfigForClient == nil {
		return errNoCert
	}
	return nil
}

// usable returns an error if nothing new can begin.
func (l *Loop) usable(h Handler) error {
	switch {
	case l.group == nil:
		return errZeroLoop
	case h == nil:
		return errNoHandler
	case l.stopping:
		return ErrEnding
	}
	return nil
}

// accept takes the connections that wait.
func (l *Loop) accept(ls *listener) {
	for range acceptMost {
		if l.stopping || ls.paused {
			return // a handler has changed it
		}
		m, ok := ls.next()
		if !ok {
			l.pauseAccepting(ls)
			return
		}
		sock, err := ls.sock.Accept()
		if err == socket.ErrWouldBlock {
			return
		}
		if err != nil { // most likely because descriptors ran out
			l.pauseAccepting(ls)
			return
		}
		m.loop.load.Add(1)
		if m.loop == l {
			l.accepted(sock, m)
			continue
		}
		if m.loop.inbox.Send(func() { m.loop.takeDealt(sock, m) }) != nil {
			m.loop.load.Add(-1)
			_ = sock.Close()
		}
	}
}

// takeDealt serves a connection that another loop has accepted.
func (l *Loop) takeDealt(sock *socket.Conn, m member) {
	if l.stopping {
		l.load.Add(-1)
		_ = sock.Close()
		return
	}
	l.accepted(sock, m)
}

// accepted begins a connection.
func (l *Loop) accepted(sock *socket.Conn, m member) {
	c := l.newConn(sock, m.handler)
	if m.tls != nil {
		l.secure(c, tlsconn.Server(sock, m.tls))
		l.settle(c)
		return
	}
	l.opened(c)
}

// secure has c shake hands first.
func (l *Loop) secure(c *Conn, s *tlsconn.Conn) {
	c.tls, c.secure, c.state = s, true, shaking
	at, ok := c.err.(*net.OpError)
	if !ok {
		at = &net.OpError{Op: "accept"}
		c.err = at
	}
	if at.Addr == nil { // after the end of the connection, the system does not know it
		at.Addr = c.sock.RemoteAddr()
	}
	if c.limit == never && !c.deadline {
		c.limit = sum(clock(), l.cfg.Handshake)
	}
	l.schedule(c)
}

// next returns the member whose turn it is, among those below MaxConns, if there is one.
func (ls *listener) next() (m member, ok bool) {
	ls.group.sharedMu.Lock() // another loop may add itself
	defer ls.group.sharedMu.Unlock()
	for range ls.members {
		ls.turn++
		if ls.turn >= len(ls.members) {
			ls.turn = 0
		}
		m := ls.members[ls.turn]
		if int(m.loop.load.Load()) < m.loop.cfg.MaxConns {
			return m, true
		}
	}
	return m, false
}

// pauseAccepting deregisters a listener. It stays readable, and the loop would spin.
func (l *Loop) pauseAccepting(ls *listener) {
	ls.paused = true
	l.pausedLs++
	_ = l.poll.Registry().Deregister(ls.sock)
	l.must(l.resume.Reset(resumeAfter))
}

// resumeAccepting accepts again.
func (l *Loop) resumeAccepting() {
	if l.stopping {
		return
	}
	for _, ls := range l.listeners {
		if ls.paused {
			ls.paused = false
			l.pausedLs--
			l.must(l.poll.Registry().Register(ls.sock, ls.token, epore.Readable))
		}
	}
}

// Dial begins to connect to an address, and then runs the handshake of a TLS client if t is
// not nil. The arguments network and addr are those of [socket.Dial]. Dial does not wait:
// the loop calls h.Open when the connection is established, or h.Failed when that fails or
// takes longer than limit. With a limit of 0 or less, the system limits the time to connect, and
// Config.Handshake that of the handshake. Data that is written before Open is sent after
// it.
//
// If t has no ServerName, the certificate must be valid for the host in addr.
func (l *Loop) Dial(network, addr string, limit time.Duration, t *tls.Config, h DialHandler) (*Conn, error) {
	if err := l.usable(h); err != nil {
		return nil, refused("dial", network, named{network, addr}, err)
	}
	if t != nil && t.ServerName == "" && !t.InsecureSkipVerify {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			t = t.Clone()
			t.ServerName = host
		}
	}
	sock, err := l.cfg.Network.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	l.load.Add(1)
	c := l.newConn(sock, h)
	c.err = &net.OpError{Op: "dial", Net: network, Addr: named{network, addr}}
	if limit > 0 {
		c.limit = min(sum(clock(), limit), never-1) // never would mean that of Config.Handshake
	}
	if t != nil {
		c.tls = tlsconn.Client(sock, t)
	}
	l.beginLater(c)
	return c, nil
}

// Adopt serves sock, which is connected or connecting, with h; as the server side of TLS if t
// is not nil, which needs a certificate as for Listen. The loop owns sock unless Adopt fails. It
// calls h.Open after the handler that calls Adopt has returned.
func (l *Loop) Adopt(sock *socket.Conn, t *tls.Config, h Handler) (*Conn, error) {
	if sock == nil {
		return nil, refusedSocket("adopt", nil, errNoSocket)
	}
	if err := l.serves(t, h); err != nil {
		return nil, refusedSocket("adopt", sock.RemoteAddr(), err)
	}
	l.load.Add(1)
	c := l.newConn(sock, h)
	if t != nil {
		c.tls = tlsconn.Server(sock, t)
		c.err = &net.OpError{Op: "adopt"}
	}
	l.beginLater(c)
	return c, nil
}

// beginLater begins a connection that a handler made: no handler is called inside another.
func (l *Loop) beginLater(c *Conn) {
	c.state = connecting
	l.schedule(c)
	l.later(c)
}
