package sim

import (
	"net/netip"
	"os"
	"time"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/simfd"
)

const (
	maxDatagram  = 65507     // with the headers of UDP and IPv4, 65,535 bytes
	receiveRoom  = 208 << 10 // bytes that wait to be read; what does not fit is lost
	datagramCost = 512       // what each counts more than its bytes
)

// datagrams is a UDP socket.
type datagrams struct {
	node
	remote  netip.AddrPort // of a connected one
	waiting []datagram
	size    int
	err     error
}

type datagram struct {
	from netip.AddrPort
	data []byte
}

func (d *datagrams) init(h *Host, port uint16) { d.node.init(h, port, d) }

func (d *datagrams) readiness() backend.Readiness {
	r := backend.ReadyWritable
	if len(d.waiting) > 0 {
		r |= backend.ReadyReadable
	}
	if d.err != nil {
		r |= backend.ReadyError
	}
	return r
}

func (d *datagrams) PendingError() error {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	return d.takeError("send")
}

func (d *datagrams) Names() (local, remote netip.AddrPort) { return d.local(), d.remote }

func (d *datagrams) takeError(call string) error {
	err := d.err
	if err == nil {
		return nil
	}
	d.err = nil
	d.progress()
	return os.NewSyscallError(call, err)
}

func (d *datagrams) Receive(b []byte) (n int, from netip.AddrPort, err error) {
	err = d.lock()
	defer d.w.mu.Unlock()
	switch {
	case err != nil:
		return 0, from, err
	case d.err != nil:
		return 0, from, d.takeError("recv")
	case len(d.waiting) == 0:
		return 0, from, d.wouldBlock(backend.Readable)
	}
	g := d.waiting[0]
	d.waiting = d.waiting[1:]
	d.size -= len(g.data) + datagramCost
	d.progress()
	copy(b, g.data)
	return len(g.data), g.from, nil
}

func (d *datagrams) Send(b []byte, to netip.AddrPort) (int, error) {
	err := d.lock()
	defer d.w.mu.Unlock()
	if !to.IsValid() {
		to = d.remote
	}
	switch {
	case err != nil:
		return 0, err
	case d.err != nil:
		return 0, d.takeError("send")
	case !to.IsValid():
		return 0, os.NewSyscallError("send", errNoDestination)
	case len(b) > maxDatagram:
		return 0, os.NewSyscallError("send", errMessageSize)
	}
	to = d.host.resolve(netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
	h := d.w.host(to.Addr())
	if h == nil {
		return 0, os.NewSyscallError("send", errHostUnreachable)
	}
	d.progress()
	f := &d.w.link(d.host, h).faults
	data := append([]byte(nil), b...)
	p := &Packet{From: d.host, To: h, FromPort: d.port, ToPort: to.Port(), Kind: Datagram, Data: data}
	for range 2 {
		lose := d.chance(f.loss)
		at := d.latency(h, len(data))
		if d.chance(f.reorder) {
			at = max(at, time.Millisecond) * time.Duration(1+d.draws().IntN(10))
		}
		d.host.after(at, func() {
			if lose {
				d.w.record(record{what: lost, from: d.name(), to: endpoint{h, p.ToPort}, n: len(data), text: "datagram"})
				return
			}
			if d.w.arrives(p) == Deliver {
				h.receiveDatagram(p, d)
			}
		})
		if !d.chance(f.duplicate) {
			break
		}
	}
	return len(b), nil
}

// receiveDatagram is the arrival of a datagram.
func (h *Host) receiveDatagram(p *Packet, from *datagrams) {
	d := h.packets[p.ToPort]
	switch {
	case d == nil:
		if !from.remote.IsValid() || from.closed || from.failed != nil {
			return // only a connected socket hears of it
		}
		back := &Packet{From: h, To: p.From, FromPort: p.ToPort, ToPort: p.FromPort, Kind: Unreachable}
		h.after(h.w.link(h, p.From).minLatency, func() {
			if from.w.arrives(back) == Deliver {
				from.err = errRefused
				from.update()
			}
		})
	case d.remote.IsValid() && d.remote != from.local(): // connected to another address
	case d.size+len(p.Data)+datagramCost > receiveRoom: // as the kernel does: lost
	default:
		d.waiting = append(d.waiting, datagram{from.local(), p.Data})
		d.size += len(p.Data) + datagramCost
		d.update()
	}
}

func (d *datagrams) Close() error {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if d.close1() {
		delete(d.host.packets, d.port)
	}
	return nil
}

var _ simfd.Socket = (*datagrams)(nil)
