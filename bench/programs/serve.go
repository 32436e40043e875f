package main

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"net"
	nethttp "net/http"
	"strings"
	"sync"

	"github.com/panjf2000/gnet/v2"
	"github.com/tidwall/redcon"
	"github.com/valyala/fasthttp"

	"github.com/epore/epore/loop"
)

// serve runs a contestant. It says where it listens.
func serve(id, backend string) error {
	switch id {
	case "proxy-net":
		return serveProxy(backend)
	case "chat-gorilla":
		return serveGorilla()
	case "chat-gobwas":
		return serveGobwas()
	case "chat-nbio":
		return serveNbio()
	case "http-loop":
		return loop.Run(context.Background(), 1, loop.Config{}, func(l *loop.Loop) error {
			addr, err := l.Listen("tcp", "127.0.0.1:0", nil, new(hello))
			if err == nil {
				fmt.Println("listening on", addr)
			}
			return err
		})
	case "http-net":
		return nethttp.Serve(listen(), nethttp.HandlerFunc(func(w nethttp.ResponseWriter, _ *nethttp.Request) {
			_, _ = w.Write(body)
		}))
	case "http-fasthttp":
		return fasthttp.Serve(listen(), func(ctx *fasthttp.RequestCtx) { _, _ = ctx.Write(body) })
	case "http-gnet":
		return runGnet(&gnetServer{handle: answers})
	case "resp-redcon":
		var mu sync.RWMutex
		s := redcon.NewServer("127.0.0.1:0", func(c redcon.Conn, cmd redcon.Command) {
			switch strings.ToLower(string(cmd.Args[0])) {
			case "get":
				mu.RLock()
				defer mu.RUnlock()
				c.WriteRaw(get(cmd.Args[1], nil))
			case "set":
				mu.Lock()
				defer mu.Unlock()
				keys[string(cmd.Args[1])] = bytes.Clone(cmd.Args[2])
				c.WriteString("OK")
			default:
				c.WriteError("ERR unknown command")
			}
		}, nil, nil)
		started := make(chan error)
		go func() {
			if err := <-started; err == nil {
				fmt.Println("listening on", s.Addr())
			}
		}()
		return s.ListenServeAndSignal(started)
	case "resp-gnet":
		return runGnet(&gnetServer{handle: replies})
	}
	return fmt.Errorf("no contestant is called %q", id)
}

func listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", l.Addr())
	return l
}

var (
	body   = []byte("Hello, World!")
	answer = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	blank  = []byte("\r\n\r\n")
)

// answers appends an answer for each complete request in b, and returns how much they take.
// It is for requests without a body.
func answers(out, b []byte) (_ []byte, used int) {
	for {
		i := bytes.Index(b[used:], blank)
		if i < 0 {
			return out, used
		}
		used += i + len(blank)
		out = append(out, answer...)
	}
}

// keys has the key that the load asks for.
var keys = make(map[string][]byte)

func get(key []byte, out []byte) []byte {
	if v, ok := keys[string(key)]; ok {
		return redcon.AppendBulk(out, v)
	}
	return redcon.AppendNull(out)
}

var arguments [][]byte // of the request in progress, on the one event loop

// replies does so for RESP.
func replies(out, b []byte) (_ []byte, used int) {
	rest := b
	for {
		complete, args, _, left, err := redcon.ReadNextCommand(rest, arguments[:0])
		if err != nil || !complete {
			return out, len(b) - len(rest)
		}
		rest, arguments = left, args
		switch {
		case len(args) == 2 && strings.EqualFold(string(args[0]), "get"):
			out = get(args[1], out)
		case len(args) == 3 && strings.EqualFold(string(args[0]), "set"):
			keys[string(args[1])] = bytes.Clone(args[2])
			out = redcon.AppendOK(out)
		default:
			out = redcon.AppendError(out, "ERR unknown command")
		}
	}
}

// hello is the handler of package loop. It reuses its buffer, as gnetServer does.
type hello struct{ out []byte }

func (*hello) Open(*loop.Conn) {}

func (h *hello) Data(c *loop.Conn, b []byte) (used int) {
	h.out, used = answers(h.out[:0], b)
	_, _ = c.Write(h.out)
	return used
}

func (*hello) Close(*loop.Conn, error) {}

type gnetServer struct {
	gnet.BuiltinEventEngine
	handle func(out, b []byte) ([]byte, int)
	out    []byte
	addr   string
}

func (s *gnetServer) OnTraffic(c gnet.Conn) gnet.Action {
	b, _ := c.Peek(-1)
	out, used := s.handle(s.out[:0], b)
	s.out = out
	_, _ = c.Discard(used)
	_, _ = c.Write(out)
	return gnet.None
}

// OnBoot is called when the engine listens.
func (s *gnetServer) OnBoot(gnet.Engine) gnet.Action {
	fmt.Println("listening on", s.addr)
	return gnet.None
}

// runGnet listens on an address that was free a moment ago: gnet does not report its own.
func runGnet(s *gnetServer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.addr = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	return gnet.Run(s, "tcp4://"+s.addr, gnet.WithMulticore(false), gnet.WithTCPNoDelay(gnet.TCPNoDelay))
}
