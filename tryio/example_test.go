//go:build unix || windows

package tryio_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/epore/epore"
	"github.com/epore/epore/tryio"
)

// A connection of package net in a loop. Each event leads to one Read, which never waits, even
// if the event was spurious.
func ExampleRead() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			_, err = io.WriteString(c, "hello")
			err = errors.Join(err, c.Close())
		}
		if err != nil {
			log.Fatal(err)
		}
	}()
	accepted, err := l.Accept()
	if err != nil {
		log.Fatal(err)
	}
	conn := accepted.(*net.TCPConn)
	defer conn.Close()

	poll, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer poll.Close()
	if err := poll.Registry().Register(conn, 1, epore.Readable); err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 64)
	for events := epore.NewEvents(8); ; {
		if err := poll.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for range events.All() {
			switch n, err := tryio.Read(conn, buf); err {
			case nil:
				fmt.Printf("%s\n", buf[:n])
			case tryio.ErrWouldBlock: // the event was spurious: wait for the next one
			case io.EOF:
				fmt.Println("the end")
				if err := poll.Registry().Deregister(conn); err != nil {
					log.Fatal(err)
				}
				return
			default:
				log.Fatal(err)
			}
		}
	}
	// Output:
	// hello
	// the end
}

// The loop keeps the data that the system has no room for, and writes it later.
func ExampleWrite() {
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
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	conn := dialled.(*net.TCPConn)

	poll, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer poll.Close()
	if err := poll.Registry().Register(conn, 1, epore.Writable); err != nil {
		log.Fatal(err)
	}
	rest := make([]byte, 10<<20)
	for events := epore.NewEvents(8); len(rest) > 0; {
		if err := poll.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for range events.All() {
			n, err := tryio.Write(conn, rest)
			if err != nil && err != tryio.ErrWouldBlock {
				log.Fatal(err)
			}
			rest = rest[n:]
		}
	}
	if err := poll.Registry().Deregister(conn); err != nil {
		log.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-received, "bytes")
	// Output:
	// 10485760 bytes
}

// A listener of package net in a loop.
func ExampleAccept() {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	poll, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer poll.Close()
	if err := poll.Registry().Register(l, 1, epore.Readable); err != nil {
		log.Fatal(err)
	}
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	events := epore.NewEvents(8)
	if err := poll.Poll(events, epore.Forever); err != nil {
		log.Fatal(err)
	}
	for range events.All() {
		for {
			c, err := tryio.Accept(l)
			if err == tryio.ErrWouldBlock {
				break
			}
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println("accepted:", c.RemoteAddr().String() == client.LocalAddr().String())
			if err := c.Close(); err != nil {
				log.Fatal(err)
			}
		}
	}
	if err := poll.Registry().Deregister(l); err != nil {
		log.Fatal(err)
	}
	// Output:
	// accepted: true
}
