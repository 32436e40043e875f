package socket_test

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/socket"
)

// BenchmarkTransfer writes a message and reads it on one goroutine, compared with package
// unix on the same kind of socket, and with package net. See docs/benchmarks.md.
func BenchmarkTransfer(b *testing.B) {
	for _, kind := range []string{"pair", "tcp4"} {
		for _, size := range []int{64, 4 << 10, 64 << 10} {
			for _, way := range []string{"socket", "unix", "net"} {
				b.Run(fmt.Sprintf("%s/%d/%s", kind, size, way), func(b *testing.B) {
					x, y := conns(b, kind)
					for _, c := range []*socket.Conn{x, y} {
						if err := c.SetWriteBuffer(1 << 20); err != nil {
							b.Fatal(err)
						}
					}
					write, read := ways(b, way, x, y)
					out, in := make([]byte, size), make([]byte, size)
					b.SetBytes(int64(size))
					b.ReportAllocs()
					for b.Loop() {
						for n := 0; n < size; {
							m, err := write(out[n:])
							if err != nil {
								b.Fatal(err)
							}
							n += m
						}
						for n := 0; n < size; {
							m, err := read(in[n:])
							if err != nil && err != socket.ErrWouldBlock && err != syscall.EAGAIN {
								b.Fatal(err)
							}
							n += max(m, 0)
						}
					}
				})
			}
		}
	}
}

func conns(b *testing.B, kind string) (x, y *socket.Conn) {
	for _, l := range links {
		if l.name == kind {
			return l.make(b)
		}
	}
	b.Fatal(kind)
	return nil, nil
}

// ways returns how to write to x and to read from y.
func ways(b *testing.B, way string, x, y *socket.Conn) (write, read func([]byte) (int, error)) {
	switch way {
	case "socket":
		return x.Write, y.Read
	case "unix":
		from, to := descriptor(b, x), descriptor(b, y)
		return func(p []byte) (int, error) { return unix.Write(from, p) },
			func(p []byte) (int, error) { return unix.Read(to, p) }
	}
	return netConn(b, x).Write, netConn(b, y).Read
}

// netConn returns the connection as a net.Conn.
func netConn(b *testing.B, c *socket.Conn) net.Conn {
	fd, err := unix.Dup(descriptor(b, c))
	if err != nil {
		b.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	n, err := net.FileConn(f)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = n.Close() })
	return n
}

// BenchmarkDatagram sends and receives a datagram with its addresses.
func BenchmarkDatagram(b *testing.B) {
	x, y := listenPacket(b, "udp4", "127.0.0.1:0"), listenPacket(b, "udp4", "127.0.0.1:0")
	b.Run("socket", func(b *testing.B) {
		to, buf := udpAddress(y), make([]byte, 64)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := x.WriteToAddrPort(buf, to); err != nil {
				b.Fatal(err)
			}
			if _, _, err := y.ReadFromAddrPort(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("net", func(b *testing.B) {
		loopback := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
		x, err := net.ListenUDP("udp4", loopback)
		if err != nil {
			b.Fatal(err)
		}
		defer x.Close()
		y, err := net.ListenUDP("udp4", loopback)
		if err != nil {
			b.Fatal(err)
		}
		defer y.Close()
		to, buf := y.LocalAddr().(*net.UDPAddr).AddrPort(), make([]byte, 64)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := x.WriteToUDPAddrPort(buf, to); err != nil {
				b.Fatal(err)
			}
			if _, _, err := y.ReadFromUDPAddrPort(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkAccept connects over a Unix socket, accepts, and closes both ends.
func BenchmarkAccept(b *testing.B) {
	b.Run("socket", func(b *testing.B) {
		l := listen(b, "unix", socketPath(b))
		address := l.Addr().String()
		b.ReportAllocs()
		for b.Loop() {
			c, err := socket.Dial("unix", address)
			if err != nil {
				b.Fatal(err)
			}
			a, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			_ = a.Close()
			_ = c.Close()
		}
	})
	b.Run("net", func(b *testing.B) {
		l, err := net.Listen("unix", socketPath(b))
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		b.ReportAllocs()
		for b.Loop() {
			c, err := net.Dial("unix", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			a, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			_ = a.Close()
			_ = c.Close()
		}
	})
}
