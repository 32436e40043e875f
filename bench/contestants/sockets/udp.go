package main

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

const (
	size  = 64 // of a datagram
	batch = 64
)

func measureUDP(a arguments) error {
	var echoes atomic.Int64
	serve := map[string]func(*net.UDPConn, *atomic.Int64) error{"fast": echoBatches, "plain": echoSingly, "net": echoByNet}[a.way]
	if serve == nil {
		return errMissing
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	_ = c.SetReadBuffer(4 << 20)
	failed := make(chan error, 1)
	address := c.LocalAddr().String()
	go func() { failed <- serve(c, &echoes) }()
	load, _, err := startLoad("udp", address, a)
	if err != nil {
		return err
	}
	defer stopLoad(load)
	cpu, rate, err := sample(a, func() (int64, error) { return echoes.Load(), nil })
	select {
	case err = <-failed:
	default:
	}
	if err == nil {
		fmt.Printf("cpu %.1f\nrate %.0f\n", cpu, rate)
	}
	return err
}

func echoByNet(c *net.UDPConn, echoes *atomic.Int64) error {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		if _, err := c.WriteToUDPAddrPort(buf[:n], from); err != nil {
			return err
		}
		echoes.Add(1)
	}
}

// eachEvent calls f whenever c is readable.
func eachEvent(c *socket.PacketConn, f func() error) error {
	p, err := epore.New()
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Registry().Register(c, 1, epore.Readable); err != nil {
		return err
	}
	for events := epore.NewEvents(8); ; {
		if err := p.Poll(events, epore.Forever); err != nil {
			return err
		}
		if err := f(); err != nil && err != socket.ErrWouldBlock {
			return err
		}
	}
}

func echoSingly(udp *net.UDPConn, echoes *atomic.Int64) error {
	c, err := socket.FromPacketConn(udp)
	if err != nil {
		return err
	}
	buf := make([]byte, 1500)
	return eachEvent(c, func() error {
		for range batch { // or there is nothing left
			n, from, err := c.ReadFromAddrPort(buf)
			if err != nil {
				return err
			}
			if _, err := c.WriteToAddrPort(buf[:n], from); err != nil {
				return err
			}
			echoes.Add(1)
		}
		return nil
	})
}

func echoBatches(udp *net.UDPConn, echoes *atomic.Int64) error {
	c, err := socket.FromPacketConn(udp)
	if err != nil {
		return err
	}
	in, out := messages(batch), make([]socket.Message, batch)
	return eachEvent(c, func() error {
		n, err := c.ReadBatch(in)
		if err != nil {
			return err
		}
		for i := range n {
			out[i] = socket.Message{Data: in[i].Data[:in[i].N], Addr: in[i].Addr}
		}
		n, err = c.WriteBatch(out[:n])
		echoes.Add(int64(n))
		return err
	})
}

func messages(n int) []socket.Message {
	ms := make([]socket.Message, n)
	for i := range ms {
		ms[i].Data = make([]byte, 1500)
	}
	return ms
}

// loadUDP keeps a window of datagrams under way from each of some clients.
func loadUDP(address string, a arguments) error {
	runtime.LockOSThread()
	leaveProcessor()
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	p, err := epore.New(epore.WithStrategy(epore.Block))
	if err != nil {
		return err
	}
	clients := make([]*socket.PacketConn, a.clients)
	out := make([]socket.Message, max(a.window, batch))
	for i := range out {
		out[i].Data = make([]byte, size)
	}
	for i := range clients {
		if clients[i], err = socket.DialPacket("udp4", to.String()); err != nil {
			return err
		}
		if err := p.Registry().Register(clients[i], epore.Token(i), epore.Readable); err != nil {
			return err
		}
	}
	fmt.Println("begins")
	in, events := messages(batch), epore.NewEvents(256)
	for started := false; ; {
		if started {
			if err := p.Poll(events, 200*time.Millisecond); err != nil {
				return err
			}
		}
		if events.Len() == 0 { // at first, or all were lost
			started = true
			for _, c := range clients {
				if _, err := c.WriteBatch(out[:a.window]); err != nil {
					return err
				}
			}
			continue
		}
		for ev := range events.All() {
			c := clients[ev.Token]
			n, err := c.ReadBatch(in)
			if err == socket.ErrWouldBlock {
				continue
			}
			if err != nil {
				return err
			}
			if _, err := c.WriteBatch(out[:n]); err != nil && err != socket.ErrWouldBlock {
				return err
			}
		}
	}
}
