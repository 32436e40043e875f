package main

import (
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

func measureProxy(a arguments) error {
	move := map[string]func(from, to *net.TCPConn) error{"fast": splice, "plain": copyThrough, "net": copyByNet}[a.way]
	if move == nil {
		return errMissing
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	load, sink, err := startLoad("proxy", l.Addr().String(), a)
	if err != nil {
		return err
	}
	defer stopLoad(load)
	from, err := l.Accept()
	if err != nil {
		return err
	}
	to, err := net.Dial("tcp4", sink)
	if err != nil {
		return err
	}
	// A second descriptor, by which the kernel is asked how much has got through.
	f, err := to.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- move(from.(*net.TCPConn), to.(*net.TCPConn)) }()
	cpu, rate, err := sample(a, func() (acked int64, err error) {
		controlErr := raw.Control(func(fd uintptr) {
			var info *unix.TCPInfo
			if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				acked = int64(info.Bytes_acked)
			}
		})
		if controlErr != nil {
			return 0, controlErr
		}
		return acked, err
	})
	select {
	case err = <-failed:
	default:
	}
	if err == nil {
		const gigabit = 1e9 / 8
		fmt.Printf("cpu %.2f\nrate %.2f\n", cpu*gigabit/1e6, rate/gigabit)
	}
	return err
}

func copyByNet(from, to *net.TCPConn) error {
	_, err := io.Copy(to, from) // it splices
	return err
}

// eachEdge calls f when one of two connections is ready, until it has nothing to do.
func eachEdge(in, out *net.TCPConn, f func(from, to *socket.Conn) error) error {
	from, err := socket.FromConn(in)
	if err != nil {
		return err
	}
	to, err := socket.FromConn(out)
	if err != nil {
		return err
	}
	p, err := epore.New()
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Registry().Register(from, 1, epore.Readable|epore.Edge); err != nil {
		return err
	}
	if err := p.Registry().Register(to, 2, epore.Writable|epore.Edge); err != nil {
		return err
	}
	for events := epore.NewEvents(8); ; {
		if err := p.Poll(events, epore.Forever); err != nil {
			return err
		}
		for err = nil; err == nil; {
			err = f(from, to)
		}
		if err != socket.ErrWouldBlock {
			return err
		}
	}
}

func splice(in, out *net.TCPConn) error {
	return eachEdge(in, out, func(from, to *socket.Conn) error {
		_, err := to.SpliceFrom(from, 64<<20)
		return err
	})
}

func copyThrough(in, out *net.TCPConn) error {
	buf := make([]byte, 256<<10)
	var rest []byte
	return eachEdge(in, out, func(from, to *socket.Conn) error {
		if len(rest) == 0 {
			n, err := from.Read(buf)
			if err != nil {
				return err
			}
			rest = buf[:n]
		}
		n, err := to.Write(rest)
		rest = rest[n:]
		return err
	})
}

// loadProxy sends into the proxy what it can, and receives what comes out.
func loadProxy(address string) error {
	leaveProcessor()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	source, err := net.Dial("tcp4", address)
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	sink, err := l.Accept()
	if err != nil {
		return err
	}
	go func() {
		for buf := make([]byte, 256<<10); ; {
			if _, err := source.Write(buf); err != nil {
				return
			}
		}
	}()
	for buf := make([]byte, 256<<10); ; {
		if _, err := sink.Read(buf); err != nil {
			return err
		}
	}
}
