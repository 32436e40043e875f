// Tlsclient is the load on the TLS echo servers: what servers/c/client.c is for the others,
// with the same arguments and the same lines of output, but for the latencies. Like it, it has
// one thread and waits with epoll: with a goroutine for each connection, it would take more
// processor time than the servers, and they would wait for it.
//
//	tlsclient ADDRESS connections=N size=BYTES seconds=S [warmup=0.3]
package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: tlsclient ADDRESS connections=N size=BYTES seconds=S [warmup=0.3]")
	}
	args := map[string]float64{"connections": 1, "size": 64, "seconds": 1, "warmup": 0.3}
	for _, arg := range os.Args[2:] {
		name, value, _ := strings.Cut(arg, "=")
		v, err := strconv.ParseFloat(value, 64)
		if _, known := args[name]; !known || err != nil {
			log.Fatalf("unknown argument %s", arg)
		}
		args[name] = v
	}
	if err := run(os.Args[1], int(args["connections"]), int(args["size"]), args["seconds"], args["warmup"]); err != nil {
		log.Fatal(err)
	}
}

func run(address string, n, size int, seconds, warmup float64) error {
	runtime.LockOSThread()
	l := &load{message: make([]byte, size), buf: make([]byte, size), events: make([]unix.EpollEvent, 256)}
	for i := range l.message {
		l.message[i] = byte(i % 251)
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	for range n {
		if err := l.connect(at); err != nil {
			return err
		}
	}
	if seconds == 0 {
		fmt.Println("connections", n)
	}
	fmt.Println("connected")
	if seconds == 0 {
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	for _, c := range l.conns {
		if err := l.start(c); err != nil {
			return err
		}
	}
	if _, err := l.during(warmup); err != nil {
		return err
	}
	fmt.Println("begin")
	l.messages = 0
	took, err := l.during(seconds)
	if err != nil {
		return err
	}
	fmt.Printf("end\nmessages %d\nseconds %f\n", l.messages, took.Seconds())
	return nil
}

// load is all connections. Each always has one message under way.
type load struct {
	epoll    int
	events   []unix.EpollEvent
	conns    []*conn
	message  []byte
	buf      []byte // for what comes back
	messages int
}

// conn is a connection, and what is below its TLS.
type conn struct {
	net.Conn // nil: crypto/tls needs no addresses and no deadlines here
	fd       int
	token    int32
	tls      *tls.Conn
	got      int    // of the message under way
	rest     []byte // what could not be sent yet
}

// Read fails with EAGAIN if nothing has arrived. This error is temporary, so crypto/tls does not
// keep it.
func (c *conn) Read(b []byte) (int, error) {
	n, err := unix.Read(c.fd, b)
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write takes all of b, and sends what can be sent.
func (c *conn) Write(b []byte) (int, error) {
	if len(c.rest) > 0 {
		c.rest = append(c.rest, b...)
		return len(b), nil
	}
	n, err := send(c.fd, b)
	c.rest = append(c.rest, b[n:]...)
	return len(b), err
}

// flush sends what could not be sent before.
func (c *conn) flush() error {
	n, err := send(c.fd, c.rest)
	c.rest = c.rest[:copy(c.rest, c.rest[n:])]
	return err
}

// send sends as much of b as the system takes.
func send(fd int, b []byte) (sent int, err error) {
	for sent < len(b) {
		n, err := unix.Write(fd, b[sent:])
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}

// connect makes a connection and sends one message, so that it is known to be accepted. Until
// then it blocks.
func (l *load) connect(to netip.AddrPort) (err error) {
	c := &conn{}
	if c.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if err := unix.Connect(c.fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	c.tls = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a load
	if _, err := c.tls.Write(l.message); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.tls, l.buf); err != nil {
		return err
	}
	if !bytes.Equal(l.buf, l.message) {
		return errOther
	}
	if err := unix.SetNonblock(c.fd, true); err != nil {
		return err
	}
	c.token = int32(len(l.conns))
	l.conns = append(l.conns, c)
	return l.watch(c, unix.EPOLL_CTL_ADD, unix.EPOLLIN)
}

var errOther = errors.New("something else came back than was sent")

// during serves the connections for some time, and returns how long it was.
func (l *load) during(seconds float64) (time.Duration, error) {
	begin := time.Now()
	for {
		n, err := unix.EpollWait(l.epoll, l.events, 10) // in time for the end when nothing moves
		if err != nil && err != unix.EINTR {
			return 0, err
		}
		for _, e := range l.events[:max(n, 0)] {
			if err := l.handle(l.conns[e.Fd], e.Events); err != nil {
				return 0, err
			}
		}
		if took := time.Since(begin); took.Seconds() >= seconds {
			return took, nil
		}
	}
}

// watch changes what the load waits for.
func (l *load) watch(c *conn, operation int, events uint32) error {
	return unix.EpollCtl(l.epoll, operation, c.fd, &unix.EpollEvent{Events: events, Fd: c.token})
}

// start sends a message.
func (l *load) start(c *conn) error {
	c.got = 0
	if _, err := c.tls.Write(l.message); err != nil || len(c.rest) == 0 {
		return err
	}
	return l.watch(c, unix.EPOLL_CTL_MOD, unix.EPOLLIN|unix.EPOLLOUT)
}

// handle handles an event.
func (l *load) handle(c *conn, events uint32) error {
	if events&unix.EPOLLOUT != 0 {
		if err := c.flush(); err != nil {
			return err
		}
		if len(c.rest) == 0 {
			if err := l.watch(c, unix.EPOLL_CTL_MOD, unix.EPOLLIN); err != nil {
				return err
			}
		}
	}
	if events&^unix.EPOLLOUT == 0 {
		return nil
	}
	for c.got < len(l.message) {
		n, err := c.tls.Read(l.buf[:len(l.message)-c.got])
		if err == unix.EAGAIN {
			return nil
		}
		if err != nil {
			return err
		}
		if !bytes.Equal(l.buf[:n], l.message[c.got:c.got+n]) {
			return errOther
		}
		c.got += n
	}
	l.messages++
	return l.start(c)
}
