package sim

import (
	"net/netip"
	"time"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/simfd"
)

// Ready returns what is true of a socket.
func (w *World) Ready(h backend.Handle) backend.Readiness {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := simfd.Get(h).(interface{ base() *node }).base()
	return n.readiness()
}

// The datagram sockets of fixtures are read and written as streams are.

func (d *datagrams) Read(b []byte) (int, error) {
	n, _, err := d.Receive(b)
	return min(n, len(b)), err
}

func (d *datagrams) Write(b []byte) (int, error) { return d.Send(b, netip.AddrPort{}) }

// ConnectDatagrams connects a datagram socket. It returns false if h is not one.
func (w *World) ConnectDatagrams(h backend.Handle, port int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := simfd.Get(h).(*datagrams)
	if ok {
		d.remote = netip.AddrPortFrom(d.host.ip, uint16(port))
	}
	return ok
}

// Fresh is a stream socket that is not yet connecting or listening. Then it becomes Socket.
type Fresh struct {
	simfd.Socket
	As backend.Handle
}

func (f *Fresh) base() *node { return f.Socket.(interface{ base() *node }).base() }

// Become makes f the socket that h names.
func (f *Fresh) Become(h backend.Handle) { f.Socket, f.As = simfd.Get(h), h }

// Close closes what f has become.
func (f *Fresh) Close() error {
	if f.Socket == nil {
		return nil
	}
	return simfd.Close(f.As)
}

// Loopback is the Network of a host, as package socket uses it.
func (h *Host) Loopback() simfd.Network { return (*hostNetwork)(h) }

// RealTime returns the time outside of bubbles.
func RealTime() time.Time {
	watchdog.mu.Lock()
	defer watchdog.mu.Unlock()
	return watchdog.now
}

// Impatient makes the watchdog look often, until restore is called.
func Impatient() (restore func()) {
	watchdog.mu.Lock()
	defer watchdog.mu.Unlock()
	watchdog.patience = time.Second
	return func() {
		watchdog.mu.Lock()
		defer watchdog.mu.Unlock()
		watchdog.patience = hanging
	}
}

// Ended reports whether the World has ended, for example because it reported a loop that spins.
func (w *World) Ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}
