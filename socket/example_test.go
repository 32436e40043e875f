//go:build unix || windows

package socket_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// A server and a client in one loop: the client connects, sends, and reads the answer.
func Example() {
	poll, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer poll.Close()
	const listening, server, client = 0, 1, 2
	registry := poll.Registry()

	l, err := socket.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	if err := registry.Register(l, listening, epore.Readable); err != nil {
		log.Fatal(err)
	}
	c, err := socket.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := registry.Register(c, client, epore.Writable); err != nil { // when the attempt has ended
		log.Fatal(err)
	}

	var s *socket.Conn
	buf := make([]byte, 64)
	for events := epore.NewEvents(8); ; {
		if err := poll.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for ev := range events.All() {
			switch {
			case ev.Token == listening:
				if s, err = l.Accept(); err == socket.ErrWouldBlock {
					continue
				}
				if err == nil {
					err = registry.Register(s, server, epore.Readable)
				}
			case ev.Token == server:
				var n int
				if n, err = s.Read(buf); err == nil {
					_, err = fmt.Fprintf(s, "you said %q", buf[:n])
					err = errors.Join(err, s.Close()) // Close also deregisters it
				}
			case ev.Token == client && ev.Writable():
				if err = c.ConnectError(); err == nil {
					_, err = c.Write([]byte("hello"))
				}
				if err == nil {
					err = registry.Reregister(c, client, epore.Readable)
				}
			case ev.Token == client:
				var n int
				if n, err = c.Read(buf); err == io.EOF {
					return
				}
				if err == nil {
					fmt.Printf("%s\n", buf[:n])
				}
			}
			if err != nil && err != socket.ErrWouldBlock {
				log.Fatal(err)
			}
		}
	}
	// Output: you said "hello"
}

// Reading until ErrWouldBlock, as an edge-triggered loop must.
func ExampleErrWouldBlock() {
	a, b, err := socket.Pair()
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	if _, err := a.Write([]byte("all of this")); err != nil {
		log.Fatal(err)
	}
	for buf := make([]byte, 6); ; {
		n, err := b.Read(buf)
		if err == socket.ErrWouldBlock {
			fmt.Println("wait for the next event")
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%q\n", buf[:n])
	}
	// Output:
	// "all of"
	// " this"
	// wait for the next event
}

// What is not written stays in bufs, until the Conn is writable again.
func ExampleConn_WriteBuffers() {
	a, b, err := socket.Pair()
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	bufs := net.Buffers{[]byte("head "), []byte("and body")}
	n, err := a.WriteBuffers(&bufs)
	fmt.Println(n, err, len(bufs))
	buf := make([]byte, 64)
	got, err := b.Read(buf)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(buf[:got]))
	// Output:
	// 13 <nil> 0
	// head and body
}

// A connection made by package net, with its Dialer and Resolver, is used in a loop.
func ExampleFromConn() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.WriteString(c, "welcome")
			err = errors.Join(err, c.Close())
		}
		if err != nil {
			log.Print(err)
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	c, err := socket.FromConn(conn) // conn is closed now, and c is connected
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	poll, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer poll.Close()
	if err := poll.Registry().Register(c, 1, epore.Readable); err != nil {
		log.Fatal(err)
	}
	if err := poll.Poll(epore.NewEvents(1), epore.Forever); err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	fmt.Printf("%q %v\n", buf[:n], err)
	// Output: "welcome" <nil>
}

// Two datagram sockets.
func ExamplePacketConn() {
	a, err := socket.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	b, err := socket.DialPacket("udp", a.LocalAddr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	poll, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer poll.Close()
	if err := poll.Registry().Register(a, 1, epore.Readable); err != nil {
		log.Fatal(err)
	}
	if _, err := b.Write([]byte("hello")); err != nil {
		log.Fatal(err)
	}
	if err := poll.Poll(epore.NewEvents(1), epore.Forever); err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 64)
	n, from, err := a.ReadFromAddrPort(buf)
	fmt.Printf("%q %v %v\n", buf[:n], from.Addr(), err)
	// Output: "hello" 127.0.0.1 <nil>
}
