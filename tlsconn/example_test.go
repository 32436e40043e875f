//go:build unix || windows

package tlsconn_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
	"github.com/epore/epore/tlsconn"
)

// client sends a line to a TLS server, and prints the answer.
func client(addr string, done func()) {
	defer done()
	c, err := tls.Dial("tcp", addr, clientConfig(tls.VersionTLS13))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprintln(c, "hello"); err != nil {
		log.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print("echo: ", line)
}

// A loop that serves TLS connections, level-triggered. Package loop does all this and more.
func Example() {
	const listenerToken, endToken = 1 << 32, 1 << 33
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	l, err := socket.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	r := p.Registry()
	if err := r.Register(l, listenerToken, epore.Readable); err != nil {
		log.Fatal(err)
	}
	end, err := epore.NewWaker(r, endToken)
	if err != nil {
		log.Fatal(err)
	}
	go client(l.Addr().String(), func() {
		if err := end.Wake(); err != nil {
			log.Fatal(err)
		}
	})

	config := serverConfig(tls.VersionTLS13)
	conns := make(map[epore.Token]*tlsconn.Conn)
	buf := make([]byte, 16<<10)
	serve := func(c *tlsconn.Conn) error {
		if err := c.Flush(); err != nil {
			return err
		}
		if err := c.Handshake(); err != nil {
			return err
		}
		for {
			n, err := c.Read(buf)
			if err != nil {
				return err
			}
			if _, err := c.Write(buf[:n]); err != nil {
				return err
			}
			if !c.Pending() {
				return nil // an event comes when there is more
			}
		}
	}
	events := epore.NewEvents(64)
	for next := epore.Token(0); ; {
		if err := p.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for ev := range events.All() {
			switch ev.Token {
			case endToken:
				return
			case listenerToken:
				sock, err := l.Accept()
				if err == socket.ErrWouldBlock {
					break
				}
				if err != nil {
					log.Fatal(err)
				}
				next++
				conns[next] = tlsconn.Server(sock, config)
				if err := r.Register(sock, next, epore.Readable); err != nil {
					log.Fatal(err)
				}
			default:
				c := conns[ev.Token]
				if err := serve(c); err != nil && err != socket.ErrWouldBlock {
					if err == io.EOF {
						err = nil
					}
					if err = errors.Join(err, c.Close()); err != nil {
						log.Print(err)
					}
					delete(conns, ev.Token)
					break
				}
				in := epore.Readable
				if c.Buffered() > 0 {
					in |= epore.Writable
				}
				if err := r.Reregister(c.Socket(), ev.Token, in); err != nil { // only if it differs, in a real loop
					log.Fatal(err)
				}
			}
		}
	}
	// Output: echo: hello
}

// Handshakes on goroutines, so that a signature with an RSA key, which takes about a
// millisecond, does not keep the loop from its other connections. While a goroutine has the
// Conn, the loop leaves it alone: its registration is one-shot.
func ExampleConn_Handshake() {
	const connToken, shakenToken = 1, 2
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	shaken, err := epore.NewMailbox[error](p.Registry(), shakenToken)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go client(l.Addr().String(), func() {})
	accepted, err := l.Accept()
	if err != nil {
		log.Fatal(err)
	}
	sock, err := socket.FromConn(accepted)
	if err != nil {
		log.Fatal(err)
	}
	c := tlsconn.Server(sock, &tls.Config{Certificates: []tls.Certificate{rsaCert()}})
	defer c.Close()
	if err := p.Registry().Register(sock, connToken, epore.Readable|epore.OneShot); err != nil {
		log.Fatal(err)
	}

	events := epore.NewEvents(8)
	for established := false; !established; {
		if err := p.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for ev := range events.All() {
			if ev.Token == connToken {
				go func() { // or one of a few goroutines
					if err := shaken.Send(c.Handshake()); err != nil {
						log.Fatal(err)
					}
				}()
				continue
			}
			for err := range shaken.All() {
				in := epore.Readable
				switch {
				case err == nil:
					established = true
				case err == socket.ErrWouldBlock:
					in |= epore.OneShot
				default:
					log.Fatal(err)
				}
				if c.Buffered() > 0 {
					in |= epore.Writable
				}
				if err := p.Registry().Reregister(sock, connToken, in); err != nil {
					log.Fatal(err)
				}
			}
		}
	}
	fmt.Println(tls.VersionName(c.ConnectionState().Version))
	buf := make([]byte, 100)
	for ended := false; !ended; {
		n, err := c.Read(buf)
		switch err {
		case nil:
			_, err = c.Write(buf[:n])
		case socket.ErrWouldBlock:
			err = p.Poll(events, epore.Forever)
		case io.EOF:
			err, ended = nil, true
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// TLS 1.3
	// echo: hello
}
