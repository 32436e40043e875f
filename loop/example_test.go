//go:build unix || windows

package loop_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/loop"
	"github.com/epore/epore/socket"
)

// upper answers each line in upper case.
type upper struct{}

func (upper) Open(*loop.Conn) {}

func (upper) Data(c *loop.Conn, b []byte) (used int) {
	for {
		i := bytes.IndexByte(b[used:], '\n')
		if i < 0 {
			return used // what follows is not a whole line yet
		}
		if _, err := c.Write(bytes.ToUpper(b[used : used+i+1])); err != nil {
			c.Abort() // the peer does not read (ErrFull), or is gone
			return used
		}
		used += i + 1
	}
}

func (upper) Close(*loop.Conn, error) {}

// A server for any number of clients, on one goroutine.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	var addr net.Addr
	err := loop.Run(ctx, 1, loop.Config{Idle: time.Minute}, func(l *loop.Loop) (err error) {
		if addr, err = l.Listen("tcp", "127.0.0.1:0", nil, upper{}); err != nil {
			return err
		}
		go func() { // a client
			defer stop()
			c, err := net.Dial("tcp", addr.String())
			if err != nil {
				log.Fatal(err)
			}
			defer c.Close()
			if _, err := fmt.Fprint(c, "hello\nworld\n"); err != nil {
				log.Fatal(err)
			}
			if _, err := io.CopyN(os.Stdout, c, 12); err != nil {
				log.Fatal(err)
			}
		}()
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// HELLO
	// WORLD
}

// slow answers each line with what a goroutine has computed from it. The answers of a
// connection come in the order of its lines, because it is paused until the answer is there.
type slow struct{ upper }

func (slow) Data(c *loop.Conn, b []byte) (used int) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return 0
	}
	line := string(b[:i]) // b is valid during the call only
	c.Pause()
	go func() {
		answer := strings.Repeat(line, 3) // takes long
		err := c.Loop().Post(func() {
			if _, err := c.Write([]byte(answer + "\n")); err != nil {
				c.Abort() // the peer does not read, or is gone
			}
			c.Resume()
		})
		if err != nil {
			log.Print(err) // the loop has ended
		}
	}()
	return i + 1
}

// Work that takes long belongs on a goroutine. Post brings the answer back to the loop.
func ExampleLoop_Post() {
	ctx, stop := context.WithCancel(context.Background())
	err := loop.Run(ctx, 1, loop.Config{}, func(l *loop.Loop) error {
		addr, err := l.Listen("tcp", "127.0.0.1:0", nil, slow{})
		if err != nil {
			return err
		}
		go talk(stop, addr, "one\ntwo\nthree\n", 3)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// oneoneone
	// twotwotwo
	// threethreethree
}

// talk sends text, and prints so many lines of what comes back.
func talk(stop func(), addr net.Addr, text string, lines int) {
	defer stop()
	c, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprint(c, text); err != nil {
		log.Fatal(err)
	}
	r := bufio.NewReader(c)
	for range lines {
		line, err := r.ReadString('\n')
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(line)
	}
}

// chat sends each line to everybody. It belongs to one loop, and needs no lock.
type chat struct{ members map[*loop.Conn]bool }

func (h *chat) Open(c *loop.Conn) { h.members[c] = true }

func (h *chat) Data(c *loop.Conn, b []byte) (used int) {
	used = bytes.LastIndexByte(b, '\n') + 1
	for m := range h.members {
		if _, err := m.Write(b[:used]); err == loop.ErrFull {
			m.Abort() // one that does not read
		}
	}
	return used
}

func (h *chat) Close(c *loop.Conn, err error) { delete(h.members, c) }

// A chat: what one client sends is written to all. What several clients say at the same time
// leaves as one write to each.
func ExampleConn_Write() {
	ctx, stop := context.WithCancel(context.Background())
	err := loop.Run(ctx, 1, loop.Config{MaxOut: 64 << 10}, func(l *loop.Loop) error {
		addr, err := l.Listen("tcp", "127.0.0.1:0", nil, &chat{make(map[*loop.Conn]bool)})
		if err != nil {
			return err
		}
		go talk(stop, addr, "hello, all\n", 1)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: hello, all
}

// proxy is one side of a proxy: it writes what it reads to the other one, and reads no more
// than that takes.
type proxy struct{ upstream string }

func (p proxy) Open(c *loop.Conn) {
	if c.Value() != nil {
		return // the side that was dialed
	}
	other, err := c.Loop().Dial("tcp", p.upstream, 5*time.Second, nil, p)
	if err != nil {
		c.Abort()
		return
	}
	c.SetValue(other)
	other.SetValue(c)
}

func (proxy) Data(c *loop.Conn, b []byte) (used int) {
	n, err := c.Value().(*loop.Conn).Write(b)
	if err == loop.ErrFull {
		c.Pause() // until Drained
	}
	return n
}

func (proxy) Drained(c *loop.Conn) { c.Value().(*loop.Conn).Resume() }

func (proxy) EOF(c *loop.Conn) { c.Value().(*loop.Conn).CloseWrite() }

func (proxy) Close(c *loop.Conn, err error) {
	if other, ok := c.Value().(*loop.Conn); ok {
		if err != nil {
			other.Abort()
		} else {
			other.Close()
		}
	}
}

func (p proxy) Failed(c *loop.Conn, err error) { p.Close(c, err) }

// A proxy with back-pressure and half-close in both directions.
func ExampleLoop_Dial() {
	ctx, stop := context.WithCancel(context.Background())
	err := loop.Run(ctx, 1, loop.Config{}, func(l *loop.Loop) error {
		upstream, err := l.Listen("tcp", "127.0.0.1:0", nil, upper{})
		if err != nil {
			return err
		}
		addr, err := l.Listen("tcp", "127.0.0.1:0", nil, proxy{upstream.String()})
		if err != nil {
			return err
		}
		go talk(stop, addr, "through a proxy\n", 1)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: THROUGH A PROXY
}

// A loop also watches what it does not know: here, a datagram socket.
func ExampleLoop_Handle() {
	ctx, stop := context.WithCancel(context.Background())
	var pc *socket.PacketConn
	err := loop.Run(ctx, 1, loop.Config{}, func(l *loop.Loop) (err error) {
		if pc, err = socket.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return err
		}
		token := l.Handle(func(ev epore.Event) {
			buf := make([]byte, 1500)
			n, from, err := pc.ReadFrom(buf)
			if err == socket.ErrWouldBlock {
				return
			}
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("%s\n", buf[:n])
			if _, err := pc.WriteTo(buf[:n], from); err != nil {
				log.Print(err) // there is no room, for example: the answer is lost, as datagrams may be
			}
			stop()
		})
		l.After(0, func() { // a sender
			c, err := net.Dial("udp", pc.LocalAddr().String())
			if err != nil {
				log.Fatal(err)
			}
			defer c.Close()
			if _, err := fmt.Fprint(c, "a datagram"); err != nil {
				log.Fatal(err)
			}
		})
		return l.Poll().Registry().Register(pc, token, epore.Readable)
	})
	if err = errors.Join(err, pc.Close()); err != nil {
		log.Fatal(err)
	}
	// Output: a datagram
}

// firstLine gives a connection back after its first line.
type firstLine struct{ upper }

func (h firstLine) Data(c *loop.Conn, b []byte) (used int) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return 0
	}
	sock, in, _, err := c.Detach()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q, and then %q\n", in[:i], in[i+1:])
	_, err = sock.Write([]byte("by hand\n"))
	if err = errors.Join(err, sock.Close()); err != nil {
		log.Fatal(err)
	}
	return 0
}

// Detach gives a connection back to the program, for example after a request to upgrade it.
func ExampleConn_Detach() {
	ctx, stop := context.WithCancel(context.Background())
	err := loop.Run(ctx, 1, loop.Config{}, func(l *loop.Loop) error {
		addr, err := l.Listen("tcp", "127.0.0.1:0", nil, firstLine{})
		if err != nil {
			return err
		}
		go talk(stop, addr, "upgrade\nsomething else", 1)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// "upgrade", and then "something else"
	// by hand
}
