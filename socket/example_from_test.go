//go:build unix || windows

package socket_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"os"
	"syscall"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// A listener that another part of the program has made is taken over by the loop.
func ExampleFromListener() {
	made, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	l, err := socket.FromListener(made)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	_, err = l.Accept()
	fmt.Println("would block:", err == socket.ErrWouldBlock)
	_, err = made.Accept()
	fmt.Println("closed:", errors.Is(err, net.ErrClosed))
	// Output:
	// would block: true
	// closed: true
}

// A program that is started by socket activation inherits its sockets from descriptor 3 on.
// What they are is asked of the system.
func ExampleFromFD() {
	const first = 3
	s, err := socket.FromFD(first)
	if err != nil {
		log.Fatal(err)
	}
	switch s := s.(type) {
	case *socket.Listener:
		fmt.Println("accepts connections at", s.Addr())
	case *socket.PacketConn:
		fmt.Println("receives datagrams at", s.LocalAddr())
	case *socket.Conn:
		fmt.Println("is connected to", s.RemoteAddr())
	}
}

// The file of a listener is passed to another program, here to ourselves.
func ExampleFromFile() {
	l, err := socket.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	var f *os.File
	if f, err = l.File(); err != nil { // for the field ExtraFiles of os/exec
		log.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		log.Fatal(err)
	}
	s, err := socket.FromFile(f) // what the other program does
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	fmt.Println("goes on:", s.(*socket.Listener).Addr().String() == address)
	// Output:
	// goes on: true
}

// Every option of the system can be set before the socket is bound.
func ExampleControl() {
	l, err := socket.Listen("tcp", "127.0.0.1:0", socket.Control(
		func(network, address string, c syscall.RawConn) error {
			fmt.Println("before it listens:", network, address)
			return c.Control(func(fd uintptr) {
				// setsockopt(fd, ...)
			})
		}))
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	// Output:
	// before it listens: tcp4 127.0.0.1:0
}

func ExampleLocalAddr() {
	l, err := socket.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	c, err := socket.Dial("tcp", l.Addr().String(), socket.LocalAddr("127.0.0.1:0"))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println("from", c.LocalAddr().(*net.TCPAddr).IP)
	// Output:
	// from 127.0.0.1
}

// Code that needs a net.Conn gets one.
func ExampleNoDeadlines() {
	a, b, err := socket.Pair()
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	var c net.Conn = socket.NoDeadlines{Conn: a}
	_, err = c.Read(make([]byte, 1))
	fmt.Println(err == socket.ErrWouldBlock)
	// Output:
	// true
}

// The loop sends a file in as many pieces as the system has room for.
func ExampleConn_SendFile() {
	f, err := os.CreateTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const size = 4 << 20
	if err := f.Truncate(size); err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	received := make(chan int64)
	go func() {
		c, err := l.Accept()
		if err != nil {
			log.Print(err)
			close(received)
			return
		}
		n, err := io.Copy(io.Discard, c)
		if err = errors.Join(err, c.Close()); err != nil {
			log.Print(err)
		}
		received <- n
	}()
	a, err := socket.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()

	poll, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer poll.Close()
	if err := poll.Registry().Register(a, 1, epore.Writable); err != nil {
		log.Fatal(err)
	}
	sent := int64(0)
	for events := epore.NewEvents(8); sent < size; {
		if err := poll.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for range events.All() {
			n, err := a.SendFile(f, sent, size-sent)
			if err != nil && err != socket.ErrWouldBlock {
				log.Fatal(err)
			}
			sent += n
		}
	}
	if err := a.CloseWrite(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-received, "bytes")
	// Output:
	// 4194304 bytes
}

// One direction of a proxy. The loop waits for the side that would block.
func ExampleConn_SpliceFrom() {
	client, in, err := socket.Pair()
	if err != nil {
		log.Fatal(err)
	}
	out, server, err := socket.Pair()
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range []*socket.Conn{client, in, out, server} {
		defer c.Close()
	}
	if _, err := io.WriteString(client, "through the proxy"); err != nil {
		log.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		log.Fatal(err)
	}

	poll, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer poll.Close()
	r := poll.Registry()
	const source, sink = 1, 2
	if err := r.Register(in, source, epore.Readable|epore.OneShot); err != nil {
		log.Fatal(err)
	}
	if err := r.Register(out, sink, epore.Writable|epore.OneShot); err != nil {
		log.Fatal(err)
	}
	events := epore.NewEvents(8)
	for ended := false; !ended; {
		if err := poll.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for range events.All() {
			_, err := out.SpliceFrom(in, math.MaxInt64)
			switch {
			case err == io.EOF:
				err, ended = out.CloseWrite(), true
			case err == socket.ErrWouldBlock && out.SplicePending() > 0:
				err = r.Reregister(out, sink, epore.Writable|epore.OneShot)
			case err == socket.ErrWouldBlock:
				err = r.Reregister(in, source, epore.Readable|epore.OneShot)
			}
			if err != nil {
				log.Fatal(err)
			}
			if ended {
				break
			}
		}
	}
	buf := make([]byte, 64)
	n, err := server.Read(buf)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", buf[:n])
	// Output:
	// through the proxy
}
