package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/epore/epore/loop"
)

//go:embed page.html
var page []byte

const (
	maxHead    = 8 << 10  // of an HTTP request
	maxMessage = 64 << 10 // of all fragments together
)

// server is the handler of all connections. One loop uses it, so it needs no lock.
type server struct {
	rooms  map[string]map[*loop.Conn]*member
	ping   time.Duration
	reader bytes.Reader // reused: the frames of all connections are parsed with it

	joined, messages, dropped int
}

// member is a connection after the upgrade.
type member struct {
	room, name string
	state      ws.State // whether a fragmented message is under way
	op         ws.OpCode
	partial    []byte // its fragments so far
	heard      bool   // since the last ping
}

// pingFrame is made once, for all members.
var pingFrame = ws.MustCompileFrame(ws.NewPingFrame(nil))

// start begins to ping.
func (s *server) start(l *loop.Loop) {
	l.After(s.ping, func() {
		for _, room := range s.rooms {
			for c, m := range room {
				if !m.heard {
					s.drop(c)
					continue
				}
				m.heard = false
				s.send(c, pingFrame)
			}
		}
		s.start(l)
	})
}

func (s *server) Open(c *loop.Conn) {
	c.SetDeadline(time.Now().Add(10 * time.Second)) // for the request
}

func (s *server) Data(c *loop.Conn, b []byte) (used int) {
	m, _ := c.Value().(*member)
	if m == nil {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			if len(b) > maxHead {
				answer(c, "431 Request Header Fields Too Large", []byte("request too long\n"))
			}
			return 0
		}
		// A client may send frames before it has read the answer: they follow in b.
		used = end + 4
		if m = s.request(c, b[:used]); m == nil {
			return used
		}
	}
	m.heard = true
	for {
		n := s.frame(c, m, b[used:])
		if n == 0 {
			return used
		}
		if used += n; used == len(b) {
			return used
		}
	}
}

func (s *server) Close(c *loop.Conn, _ error) {
	m, _ := c.Value().(*member)
	if m == nil {
		return
	}
	delete(s.rooms[m.room], c)
	if len(s.rooms[m.room]) == 0 {
		delete(s.rooms, m.room)
		return
	}
	s.broadcast(m.room, ws.OpText, []byte("* "+m.name+" left"))
}

// request answers an HTTP request. It returns the new member if the request was an upgrade.
func (s *server) request(c *loop.Conn, head []byte) *member {
	target, _, _ := strings.Cut(strings.TrimPrefix(string(head), "GET "), " ")
	u, err := url.ParseRequestURI(target)
	if !bytes.HasPrefix(head, []byte("GET ")) || err != nil || u.Path != "/ws" {
		status, body := "404 Not Found", []byte("not found\n")
		if err == nil && u.Path == "/" {
			status, body = "200 OK", page
		}
		answer(c, status, body)
		return nil
	}
	if err := upgrade(c, head); err != nil { // it has written an answer
		c.Close()
		return nil
	}
	// A browser closes its connection when it receives a text that is not UTF-8.
	name := strings.ToValidUTF8(u.Query().Get("name"), "\uFFFD")
	if name == "" {
		name = "nobody"
	}
	m := &member{room: u.Query().Get("room"), name: name, state: ws.StateServerSide}
	c.SetDeadline(time.Time{})
	c.SetValue(m)
	if s.rooms[m.room] == nil {
		s.rooms[m.room] = make(map[*loop.Conn]*member)
	}
	s.rooms[m.room][c] = m
	s.joined++
	s.broadcast(m.room, ws.OpText, []byte("* "+m.name+" joined"))
	return m
}

// answer answers a request, and closes the connection.
func answer(c *loop.Conn, status string, body []byte) {
	fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, len(body), body)
	c.Close()
}

// upgrade answers a request for a WebSocket. It refuses the request of another site's page,
// which would speak for the user of the browser (RFC 6455, section 10.2).
func upgrade(c *loop.Conn, head []byte) error {
	var host, origin string
	upgrader := ws.Upgrader{
		OnHost: func(v []byte) error { host = string(v); return nil },
		OnHeader: func(k, v []byte) error {
			if string(k) == "Origin" {
				origin = string(v)
			}
			return nil
		},
		OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
			if u, err := url.Parse(origin); origin == "" || err == nil && strings.EqualFold(u.Host, host) {
				return nil, nil
			}
			return nil, ws.RejectConnectionError(ws.RejectionStatus(403), ws.RejectionReason("page of another site"))
		},
	}
	_, err := upgrader.Upgrade(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(head), c})
	return err
}

// frame handles the first frame of b. It returns its length, or 0 if it is incomplete or the
// connection ends.
func (s *server) frame(c *loop.Conn, m *member, b []byte) (n int) {
	s.reader.Reset(b)
	h, err := ws.ReadHeader(&s.reader)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return 0
	}
	if err == nil {
		err = ws.CheckHeader(h, m.state)
	}
	if err != nil {
		return s.refuse(c, ws.StatusProtocolError, err.Error())
	}
	begin := len(b) - s.reader.Len()
	if !h.OpCode.IsControl() && h.Length > int64(maxMessage-len(m.partial)) {
		return s.refuse(c, ws.StatusMessageTooBig, "message too long")
	}
	if n = begin + int(h.Length); n > len(b) {
		return 0
	}
	payload := b[begin:n]
	ws.Cipher(payload, h.Mask, 0)
	switch {
	case h.OpCode == ws.OpPing:
		s.send(c, ws.MustCompileFrame(ws.NewPongFrame(payload)))
	case h.OpCode == ws.OpPong:
	case h.OpCode == ws.OpClose:
		code, reason := ws.ParseCloseFrameDataUnsafe(payload)
		if len(payload) > 0 && ws.CheckCloseFrameData(code, reason) != nil {
			code = ws.StatusProtocolError
		}
		return s.refuse(c, code, "")
	case !h.Fin: // the first fragment, or one in the middle
		if h.OpCode != ws.OpContinuation {
			m.op, m.state = h.OpCode, m.state.Set(ws.StateFragmented)
		}
		m.partial = append(m.partial, payload...)
	case h.OpCode == ws.OpContinuation:
		payload = append(m.partial, payload...)
		m.partial, m.state = nil, m.state.Clear(ws.StateFragmented)
		return s.message(c, m, m.op, payload, n)
	default:
		return s.message(c, m, h.OpCode, payload, n)
	}
	return n
}

// message sends a message of a member to its room. It returns n, or 0 if it refuses it.
func (s *server) message(c *loop.Conn, m *member, op ws.OpCode, text []byte, n int) int {
	if op != ws.OpText {
		return s.refuse(c, ws.StatusUnsupportedData, "only text")
	}
	if !utf8.Valid(text) {
		return s.refuse(c, ws.StatusInvalidFramePayloadData, "not UTF-8")
	}
	s.messages++
	s.broadcast(m.room, op, append([]byte(m.name+": "), text...))
	return n
}

// broadcast makes a frame once, and sends it to all members of a room.
func (s *server) broadcast(room string, op ws.OpCode, text []byte) {
	frame := ws.MustCompileFrame(ws.NewFrame(op, true, text))
	for c := range s.rooms[room] {
		s.send(c, frame)
	}
}

// send sends a frame to a member. It drops a member that reads too slowly: the others do not
// wait for it.
func (s *server) send(c *loop.Conn, frame []byte) {
	if _, err := c.Write(frame); err == loop.ErrFull {
		s.drop(c)
	}
}

// drop ends a connection at once.
func (s *server) drop(c *loop.Conn) {
	s.dropped++
	c.Abort()
}

// refuse sends a close frame, and closes the connection in order. It returns 0, as frame does.
func (s *server) refuse(c *loop.Conn, code ws.StatusCode, reason string) int {
	var body []byte
	if !code.Empty() {
		body = ws.NewCloseFrameBody(code, reason)
	}
	s.send(c, ws.MustCompileFrame(ws.NewCloseFrame(body)))
	c.Close()
	return 0
}
