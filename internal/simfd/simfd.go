// Package simfd connects package socket and package sim: it finds the simulated socket that
// a handle names. Simulated sockets have numbers that no descriptor has, so a system call
// with one fails with EBADF.
package simfd

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/epore/epore/backend"
)

// Socket is a simulated socket. Methods of streams and datagrams that can do nothing now
// return socket.ErrWouldBlock. Other errors are those of the system calls.
type Socket interface {
	// Read reads from a stream. It returns 0 and nil at its end.
	Read(b []byte) (int, error)
	// Write writes to a stream. It may write less than b.
	Write(b []byte) (int, error)
	// Receive receives one datagram, and returns its full length, which may exceed len(b).
	Receive(b []byte) (n int, from netip.AddrPort, err error)
	// Send sends one datagram. If to is not valid, it goes to the connected address.
	Send(b []byte, to netip.AddrPort) (int, error)
	// Accept returns the next connection of a listener.
	Accept() (backend.Handle, error)
	// Shutdown shuts down one direction of a stream.
	Shutdown(read bool) error
	// PendingError returns, once, why the attempt to connect has failed.
	PendingError() error
	// Names returns the addresses. That of the peer is not valid if there is none.
	Names() (local, remote netip.AddrPort)
	// SetLinger sets what Close does: see socket.Conn.SetLinger.
	SetLinger(seconds int)
	// Close closes the socket. It is called once.
	Close() error
}

// Network makes simulated sockets. Its methods return handles from [Open].
type Network interface {
	Listen(at netip.AddrPort, backlog int) (backend.Handle, error)
	Dial(from, to netip.AddrPort) (backend.Handle, error)
	ListenPacket(at netip.AddrPort) (backend.Handle, error)
	DialPacket(from, to netip.AddrPort) (backend.Handle, error)
}

// Functions of package socket, which sets them. Their opts are a []socket.Option; their
// results are a *socket.Listener, a *socket.Conn and two *socket.PacketConn.
var (
	Listen       func(n Network, network, address string, opts any) (any, error)
	Dial         func(n Network, network, address string, opts any) (any, error)
	ListenPacket func(n Network, network, address string, opts any) (any, error)
	DialPacket   func(n Network, network, address string, opts any) (any, error)
)

const (
	shift    = 30
	pageSize = 1 << 10
	maxPages = 1 << 10
)

// Is reports whether h names a simulated socket.
func Is(h backend.Handle) bool { return h>>shift == 1 }

type page [pageSize]atomic.Pointer[Socket]

var (
	pages [maxPages]atomic.Pointer[page]

	mu   sync.Mutex
	used uint32   // numbers below have been given
	free []uint32 // of them, those that name nothing
)

// Open gives s a handle. ok is false if none is left.
func Open(s Socket) (h backend.Handle, ok bool) {
	mu.Lock()
	defer mu.Unlock()
	n := used
	if last := len(free) - 1; last >= 0 {
		n, free = free[last], free[:last]
	} else if used == pageSize*maxPages {
		return 0, false
	} else {
		if n%pageSize == 0 {
			pages[n/pageSize].Store(new(page))
		}
		used++
	}
	pages[n/pageSize].Load()[n%pageSize].Store(&s)
	return 1<<shift | backend.Handle(n), true
}

// Get returns the socket that h names, or nil.
func Get(h backend.Handle) Socket {
	n := h &^ (1 << shift)
	if !Is(h) || n >= pageSize*maxPages {
		return nil
	}
	if p := pages[n/pageSize].Load(); p != nil {
		if s := p[n%pageSize].Load(); s != nil {
			return *s
		}
	}
	return nil
}

// Close closes the socket that h names, and frees the number.
func Close(h backend.Handle) error {
	s := Get(h)
	if s == nil {
		return nil
	}
	n := uint32(h &^ (1 << shift))
	pages[n/pageSize].Load()[n%pageSize].Store(nil)
	err := s.Close()
	mu.Lock()
	free = append(free, n)
	mu.Unlock()
	return err
}
