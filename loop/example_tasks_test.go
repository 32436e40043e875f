//go:build unix || windows

package loop_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/epore/epore/loop"
)

// web answers HTTP requests. Only a complete request moves the deadline of its connection.
// So a client that sends a request slowly, and one that reads its answers slowly, lose the
// connection at that deadline.
type web struct{ limit time.Duration }

func (w web) Open(c *loop.Conn) { c.SetDeadline(time.Now().Add(w.limit)) }

func (w web) Data(c *loop.Conn, b []byte) (used int) {
	for {
		end := bytes.Index(b[used:], []byte("\r\n\r\n"))
		if end < 0 {
			return used // more than MaxIn bytes without an end are ErrTooLong
		}
		head := b[used : used+end+4]
		used += len(head)
		request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
		if err != nil || request.Method != http.MethodGet || request.ContentLength != 0 {
			w.answer(c, http.StatusBadRequest, "only GET, and no body\n")
			c.Close()
			return used
		}
		c.SetDeadline(time.Now().Add(w.limit))
		w.answer(c, http.StatusOK, "hello "+request.URL.Path+"\n")
		if request.Close {
			c.Close()
			return used
		}
	}
}

func (w web) Close(c *loop.Conn, err error) {}

// answer writes an answer. It disconnects a peer that does not read its answers.
func (web) answer(c *loop.Conn, status int, text string) {
	if _, err := fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\n\r\n%s", status, http.StatusText(status), len(text), text); err != nil {
		c.Abort()
	}
}

// serveHTTPS serves until ctx is done.
func serveHTTPS(ctx context.Context, addr string, cert tls.Certificate, limit time.Duration, listening func(net.Addr)) error {
	cfg := loop.Config{
		Handshake: 5 * time.Second, // the TLS handshake
		Grace:     5 * time.Second, // the last answer of a connection
		MaxIn:     16 << 10,        // the head of a request
		MaxConns:  10_000,          // further clients wait in the backlog
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}}
	return loop.Run(ctx, 1, cfg, func(l *loop.Loop) error {
		a, err := l.Listen("tcp", addr, conf, web{limit})
		if err == nil {
			listening(a)
		}
		return err
	})
}

// An HTTPS server. A client that never completes its request is disconnected; meanwhile
// others are served.
func Example_https() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	cert, roots := certs().cert, certs().pool // in a program: tls.LoadX509KeyPair
	addr, served := make(chan string, 1), make(chan error, 1)
	go func() {
		served <- serveHTTPS(ctx, "127.0.0.1:0", cert, time.Second, func(a net.Addr) { addr <- a.String() })
	}()
	address := <-addr

	trust := &tls.Config{RootCAs: roots, ServerName: "example.test"}
	slow, err := tls.Dial("tcp", address, trust)
	if err != nil {
		log.Fatal(err)
	}
	defer slow.Close()
	if _, err := io.WriteString(slow, "GET / HTTP/1.1\r\n"); err != nil { // and no more
		log.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}}
	answer, err := client.Get("https://" + address + "/world")
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	fmt.Printf("%s: %s%v\n", answer.Status, text, err)
	_, err = slow.Read(make([]byte, 1))
	fmt.Println("the slow client is disconnected:", err != nil)

	stop()
	if err := <-served; err != nil {
		log.Fatal(err)
	}
	// Output:
	// 200 OK: hello /world
	// <nil>
	// the slow client is disconnected: true
}

// download sends size bytes to each client. A client that takes less than MaxOut bytes in the
// time of limit loses the connection.
type download struct {
	upper
	size  int
	limit time.Duration
}

func (d download) Open(c *loop.Conn) {
	c.SetValue(d.size) // what is left to send
	d.Drained(c)
}

// Drained is called when all is sent after Write has returned ErrFull.
func (d download) Drained(c *loop.Conn) {
	c.SetDeadline(time.Now().Add(d.limit))
	piece := make([]byte, 16<<10)
	left := c.Value().(int)
	for left > 0 {
		n, err := c.Write(piece[:min(left, len(piece))])
		if err == loop.ErrFull {
			c.SetValue(left)
			return // Drained is called again
		}
		if err != nil {
			return // Close is called next
		}
		left -= n
	}
	c.Close() // when all is sent
}

func ExampleDrainer() {
	ctx, stop := context.WithCancel(context.Background())
	cfg := loop.Config{MaxOut: 64 << 10}
	err := loop.Run(ctx, 1, cfg, func(l *loop.Loop) error {
		addr, err := l.Listen("tcp", "127.0.0.1:0", nil, download{size: 10_000_000, limit: time.Minute})
		if err != nil {
			return err
		}
		go func() { // a client
			defer stop()
			c, err := net.Dial("tcp", addr.String())
			if err != nil {
				log.Fatal(err)
			}
			defer c.Close()
			fmt.Println(io.Copy(io.Discard, c))
		}()
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: 10000000 <nil>
}

// caller is a client: it sends one line, prints the answer, and reports how it ended.
type caller struct {
	line string
	done func(error)
}

func (h caller) Open(c *loop.Conn) {
	if _, err := c.Write([]byte(h.line + "\n")); err != nil {
		c.Abort() // Close is called next
	}
}

func (h caller) Data(c *loop.Conn, b []byte) (used int) {
	line, _, whole := strings.Cut(string(b), "\n")
	if !whole {
		return 0
	}
	fmt.Println(line)
	c.Close()
	return len(line) + 1
}

func (h caller) Close(c *loop.Conn, err error) { h.done(err) }

// Failed is called instead of Open and Close if there is no connection.
func (h caller) Failed(c *loop.Conn, err error) { h.done(err) }

// A client, over TLS. Without the config of TLS it is a client over TCP.
func ExampleLoop_Dial_client() {
	ctx, stop := context.WithCancel(context.Background())
	cert, roots := certs().cert, certs().pool
	var ended error
	err := loop.Run(ctx, 1, loop.Config{}, func(l *loop.Loop) error {
		addr, err := l.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}}, upper{})
		if err != nil {
			return err
		}
		client := caller{"hello", func(err error) { ended = err; stop() }}
		_, err = l.Dial("tcp", addr.String(), 5*time.Second, &tls.Config{RootCAs: roots, ServerName: "example.test"}, client)
		return err
	})
	if err = errors.Join(err, ended); err != nil {
		log.Fatal(err)
	}
	// Output: HELLO
}

// dialName resolves a name on a goroutine, because that may wait, and then dials.
func dialName(ctx context.Context, l *loop.Loop, host, port string, h loop.DialHandler) {
	go func() {
		addrs, err := net.DefaultResolver.LookupHost(ctx, host)
		ended := l.Post(func() {
			if err == nil {
				_, err = l.Dial("tcp", net.JoinHostPort(addrs[0], port), 5*time.Second, nil, h)
			}
			if err != nil {
				h.Failed(nil, err)
			}
		})
		if ended != nil {
			log.Print(ended) // the loop, with all that waited for the answer
		}
	}()
}

// The addresses that package loop and package socket take are literal, because resolving a
// name may wait.
func ExampleLoop_Dial_name() {
	ctx, stop := context.WithCancel(context.Background())
	var ended error
	err := loop.Run(ctx, 1, loop.Config{}, func(l *loop.Loop) error {
		addr, err := l.Listen("tcp", "127.0.0.1:0", nil, upper{})
		if err != nil {
			return err
		}
		host, port, err := net.SplitHostPort(addr.String())
		dialName(ctx, l, host, port, caller{"by name", func(err error) { ended = err; stop() }})
		return err
	})
	if err = errors.Join(err, ended); err != nil {
		log.Fatal(err)
	}
	// Output: BY NAME
}

// counter counts the connections of one loop. No other goroutine uses it, so it needs no lock.
type counter struct {
	upper
	open int
}

func (h *counter) Open(*loop.Conn) { h.open++ }

func (h *counter) Close(*loop.Conn, error) { h.open-- }

// counters are the handlers of all loops.
type counters map[*loop.Loop]*counter

// total asks each loop on its goroutine. It must not be called on one of them.
func (all counters) total() (n int) {
	open := make(chan int)
	for l, h := range all {
		if l.Post(func() { open <- h.open }) == nil {
			n += <-open
		}
	}
	return n
}

// askOnce sends a line, and calls done when the answer is there, before it closes the connection.
func askOnce(addr net.Addr, done func()) {
	c, err := net.Dial(addr.Network(), addr.String())
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
	fmt.Print(line)
	done()
}

// Several loops share the connections of one address. Each has a handler of its own.
func ExampleLoop_Post_allLoops() {
	ctx, stop := context.WithCancel(context.Background())
	const loops = 2 // 0 means one for each processor
	all := make(counters)
	err := loop.Run(ctx, loops, loop.Config{}, func(l *loop.Loop) error {
		h := new(counter)
		addr, err := l.Listen("tcp", "127.0.0.1:0", nil, h) // the same port for all loops
		if err != nil {
			return err
		}
		all[l] = h // Run calls this function for one loop after the other
		if len(all) == loops {
			go askOnce(addr, func() { fmt.Println("open:", all.total()); stop() })
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// HELLO
	// open: 1
}

// What a Config of a public server sets.
func ExampleConfig() {
	cfg := loop.Config{
		MaxConns:  20_000,           // of each loop
		MaxIn:     64 << 10,         // the longest message
		MaxOut:    256 << 10,        // what a client may leave unread
		Idle:      2 * time.Minute,  // neither received nor sent
		Handshake: 5 * time.Second,  // TLS
		Grace:     10 * time.Second, // the last data, at the end of a connection and of the program
		OnStall: func(c *loop.Conn, d time.Duration) {
			log.Printf("a handler held up its loop for %v", d)
		},
		OnPanic: func(c *loop.Conn, value any) {
			log.Printf("a handler panicked: %v", value)
		},
	}
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer stop()
	fmt.Println(loop.Run(ctx, 0, cfg, func(l *loop.Loop) error {
		_, err := l.Listen("tcp", "127.0.0.1:0", nil, upper{})
		return err
	}))
	// Output: <nil>
}
