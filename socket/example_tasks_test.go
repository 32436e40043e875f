//go:build unix || windows

package socket_test

import (
	"bytes"
	"fmt"
	"io"
	"log"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// A client is a connection in a loop. It keeps what the system has no room for.
type client struct {
	*socket.Conn
	registry *epore.Registry
	token    epore.Token
	interest epore.Interest // as registered
	unsent   []byte
}

// send writes b, and keeps what the system does not take.
func (c *client) send(b []byte) error {
	if len(c.unsent) == 0 {
		n, err := c.Write(b)
		if err != nil && err != socket.ErrWouldBlock {
			return err
		}
		b = b[n:]
	}
	c.unsent = append(c.unsent, b...) // a copy: the caller uses b again
	return c.watch()
}

// flush writes what was kept. Call it when the connection is writable.
func (c *client) flush() error {
	n, err := c.Write(c.unsent)
	if err != nil && err != socket.ErrWouldBlock {
		return err
	}
	c.unsent = c.unsent[n:]
	return c.watch()
}

// watch waits for room only while there is something to write: a level-triggered connection
// is nearly always writable. It waits for data only while nothing is unsent. So a client
// that asks and does not read the answers is not read, and soon cannot send.
func (c *client) watch() error {
	interest := epore.Readable
	if len(c.unsent) > 0 {
		interest = epore.Writable
	}
	if interest == c.interest {
		return nil // most of the time: no system call
	}
	c.interest = interest
	return c.registry.Reregister(c, c.token, interest)
}

// Partial writes and back-pressure, level-triggered: what is not written is kept, and while
// there is such data, nothing more is read.
func ExampleConn_Write() {
	poll, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer poll.Close()
	sock, peer, err := socket.Pair()
	if err != nil {
		log.Fatal(err)
	}
	defer sock.Close()
	defer peer.Close()
	c := &client{Conn: sock, registry: poll.Registry(), token: 1, interest: epore.Readable}
	if err := c.registry.Register(c, c.token, c.interest); err != nil {
		log.Fatal(err)
	}

	const size = 4 << 20
	if err := c.send(bytes.Repeat([]byte("x"), size)); err != nil {
		log.Fatal(err)
	}
	received := 0
	buf := make([]byte, 1<<20)
	for events := epore.NewEvents(8); received < size; {
		n, err := peer.Read(buf) // the peer reads at last
		if err != nil && err != socket.ErrWouldBlock {
			log.Fatal(err)
		}
		received += n
		if err := poll.Poll(events, 0); err != nil {
			log.Fatal(err)
		}
		for ev := range events.All() {
			if ev.Writable() {
				if err := c.flush(); err != nil {
					log.Fatal(err)
				}
			}
		}
	}
	fmt.Println(received, "bytes, unsent:", len(c.unsent), "waits for:", c.interest)
	// Output: 4194304 bytes, unsent: 0 waits for: Readable
}

// readSome reads at most four buffers, so that other connections get their turn. c is
// registered with interest, which has Edge: if readSome stops before the socket would block,
// no event follows. Reregister makes one. A level-triggered connection does not need that.
func readSome(r *epore.Registry, c *socket.Conn, token epore.Token, interest epore.Interest, buf []byte) (n int, err error) {
	for range 4 {
		m, err := c.Read(buf)
		n += m
		if err == socket.ErrWouldBlock {
			return n, nil // the next event is certain
		}
		if err != nil {
			return n, err
		}
	}
	return n, r.Reregister(c, token, interest)
}

// There is more to do than one turn of the loop should take.
func ExampleConn_Read_edge() {
	poll, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer poll.Close()
	c, peer, err := socket.Pair()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	defer peer.Close()
	interest := epore.Readable | poll.Capabilities().Interests&epore.Edge // poll(2) has no edges
	if err := poll.Registry().Register(c, 1, interest); err != nil {
		log.Fatal(err)
	}
	sent, err := peer.Write(make([]byte, 1<<20)) // as much as there is room for
	if err != nil && err != socket.ErrWouldBlock {
		log.Fatal(err)
	}
	if err := peer.CloseWrite(); err != nil {
		log.Fatal(err)
	}

	received, turns := 0, 0
	buf := make([]byte, 1024)
	events := epore.NewEvents(8)
	for ended := false; !ended; turns++ {
		if err := poll.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for range events.All() {
			n, err := readSome(poll.Registry(), c, 1, interest, buf)
			received += n
			if ended = err == io.EOF; err != nil && !ended {
				log.Fatal(err)
			}
		}
	}
	fmt.Println("all of it:", received == sent, "in several turns:", turns > 1)
	// Output: all of it: true in several turns: true
}

// Each goroutine has a Poll and a listener. The system distributes the connections.
func ExampleReusePort() {
	first, err := socket.Listen("tcp", "127.0.0.1:0", socket.ReusePort())
	if err != nil {
		fmt.Println(err) // errors.ErrUnsupported: accept on one loop, and pass connections on
		return
	}
	defer first.Close()
	second, err := socket.Listen("tcp", first.Addr().String(), socket.ReusePort())
	if err != nil {
		log.Fatal(err)
	}
	defer second.Close()
	fmt.Println(second.Addr().String() == first.Addr().String())
}
