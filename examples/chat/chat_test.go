//go:build unix || windows

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// limit bounds every wait.
const limit = time.Minute

// program is the server, running.
type program struct {
	plain, secure string // addresses
	stop          func()
	out           *bufio.Reader
	status        chan int
}

func started(t *testing.T, args ...string) *program {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	p := &program{stop: stop, out: bufio.NewReader(r), status: make(chan int, 1)}
	go func() {
		p.status <- run(ctx, append([]string{"-addr", "127.0.0.1:0", "-tls", "127.0.0.1:0"}, args...), w, w)
		_ = w.Close()
	}()
	t.Cleanup(func() {
		stop()
		_, _ = io.Copy(io.Discard, p.out)
	})
	line, err := p.out.ReadString('\n')
	require.NoError(t, err)
	_, err = fmt.Sscanf(line, "listening on http://%s and https://%s ^C", &p.plain, &p.secure)
	require.NoError(t, err, line)
	p.secure = strings.TrimSuffix(p.secure, ";")
	return p
}

// ends stops the program, and returns what it prints last.
func (p *program) ends(t *testing.T) string {
	t.Helper()
	p.stop()
	rest, err := io.ReadAll(p.out)
	require.NoError(t, err)
	require.Zero(t, <-p.status)
	return strings.TrimSpace(string(rest))
}

// client is a member, seen from the other side.
type client struct {
	conn net.Conn
	in   io.Reader
}

func (c client) read(t *testing.T) string {
	t.Helper()
	return string(c.next(t).Payload)
}

// join connects, and waits until the room knows.
func join(t *testing.T, url, room, name string) client {
	t.Helper()
	d := ws.Dialer{TLSConfig: &tls.Config{InsecureSkipVerify: true}, Timeout: limit}
	conn, buffered, _, err := d.Dial(t.Context(), url+"/ws?room="+room+"&name="+name)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(limit)))
	c := client{conn, conn}
	if buffered != nil {
		c.in = buffered
	}
	require.Equal(t, "* "+name+" joined", c.read(t))
	return c
}

func (c client) write(t *testing.T, frames ...ws.Frame) {
	t.Helper()
	var all []byte
	for _, f := range frames {
		all = append(all, ws.MustCompileFrame(ws.MaskFrame(f))...)
	}
	_, err := c.conn.Write(all)
	require.NoError(t, err)
}

func (c client) next(t *testing.T) ws.Frame {
	t.Helper()
	f, err := ws.ReadFrame(c.in)
	require.NoError(t, err)
	return f
}

func text(s string) ws.Frame { return ws.NewTextFrame([]byte(s)) }

func TestChat_TwoClientsTalk(t *testing.T) {
	p := started(t)
	a := join(t, "ws://"+p.plain, "r", "ann")
	b := join(t, "ws://"+p.plain, "r", "bob")
	require.Equal(t, "* bob joined", a.read(t))
	a.write(t, text("hello"))
	require.Equal(t, "ann: hello", a.read(t))
	require.Equal(t, "ann: hello", b.read(t))
	require.NoError(t, b.conn.Close())
	require.Equal(t, "* bob left", a.read(t))
	require.Equal(t, "2 members, 1 messages, 0 dropped", p.ends(t))
}

// Members of a room hear each other, over TLS and plain, and nobody else.
func TestChat_RoomsAndTLS(t *testing.T) {
	p := started(t)
	a := join(t, "ws://"+p.plain, "one", "ann")
	b := join(t, "wss://"+p.secure, "one", "bob")
	require.Equal(t, "* bob joined", a.read(t))
	other := join(t, "wss://"+p.secure, "two", "eve")
	b.write(t, text("hello"))
	require.Equal(t, "bob: hello", a.read(t))
	require.Equal(t, "bob: hello", b.read(t))
	other.write(t, text("alone"))
	require.Equal(t, "eve: alone", other.read(t)) // the first that it hears
	require.Equal(t, "3 members, 2 messages, 0 dropped", p.ends(t))
}

// Fragments are one message, with a ping in between, byte by byte or all at once.
func TestChat_Fragments(t *testing.T) {
	p := started(t)
	c := join(t, "ws://"+p.plain, "r", "ann")
	first := ws.NewFrame(ws.OpText, false, []byte("a "))
	middle := ws.NewFrame(ws.OpContinuation, false, []byte("long "))
	last := ws.NewFrame(ws.OpContinuation, true, []byte("message"))
	ping := ws.NewPingFrame([]byte("p"))
	var all []byte
	for _, f := range []ws.Frame{first, ping, middle, last} {
		all = append(all, ws.MustCompileFrame(ws.MaskFrame(f))...)
	}
	for i := range all {
		_, err := c.conn.Write(all[i : i+1])
		require.NoError(t, err)
	}
	_, err := c.conn.Write(all)
	require.NoError(t, err)
	for range 2 {
		require.Equal(t, ws.OpPong, c.next(t).Header.OpCode)
		require.Equal(t, "ann: a long message", c.read(t))
	}
}

// A message of the greatest length may have a ping in it, after which nothing but its end comes.
func TestChat_PingInLongMessage(t *testing.T) {
	p := started(t)
	c := join(t, "ws://"+p.plain, "r", "ann")
	long := strings.Repeat("x", maxMessage)
	c.write(t, ws.NewFrame(ws.OpText, false, []byte(long)), ws.NewPingFrame([]byte("p")), ws.NewFrame(ws.OpContinuation, true, nil))
	f := c.next(t)
	require.Equal(t, ws.OpPong, f.Header.OpCode, "%s", f.Payload)
	require.Equal(t, "ann: "+long, c.read(t))
}

// A name that is not UTF-8 would end the connections of all browsers in the room.
func TestChat_NameIsUTF8(t *testing.T) {
	p := started(t)
	a := join(t, "ws://"+p.plain, "r", "ann")
	d := ws.Dialer{Timeout: limit}
	conn, _, _, err := d.Dial(t.Context(), "ws://"+p.plain+"/ws?room=r&name=b%ffb")
	require.NoError(t, err)
	defer conn.Close()
	require.Equal(t, "* b\uFFFDb joined", a.read(t))
}

// A page of another site may not use the WebSocket of a user.
func TestChat_ChecksOrigin(t *testing.T) {
	p := started(t)
	for origin, status := range map[string]int{
		"http://" + p.plain:     http.StatusSwitchingProtocols,
		"https://" + p.plain:    http.StatusSwitchingProtocols,
		"http://other.test":     http.StatusForbidden,
		"http://" + p.secure:    http.StatusForbidden,
		"null":                  http.StatusForbidden,
		"http://%zz" + p.plain:  http.StatusForbidden,
		"http://x@other.test:1": http.StatusForbidden,
	} {
		require.Equal(t, status, answerTo(t, p, "Origin: "+origin+"\r\n"), origin)
	}
}

// answerTo returns the status of the answer to a request for a WebSocket with more headers.
func answerTo(t *testing.T, p *program, headers string) int {
	t.Helper()
	conn, err := net.Dial("tcp", p.plain)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(limit)))
	_, err = io.WriteString(conn, "GET /ws?room=r&name=ann HTTP/1.1\r\nHost: "+p.plain+"\r\nUpgrade: websocket\r\n"+
		"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"+headers+"\r\n")
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	return answer.StatusCode
}

// A request that is too long has an answer, rather than a reset.
func TestChat_LongRequest(t *testing.T) {
	p := started(t)
	require.Equal(t, http.StatusSwitchingProtocols, answerTo(t, p, "Cookie: "+strings.Repeat("x", maxHead-1<<10)+"\r\n"))
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, answerTo(t, p, "Cookie: "+strings.Repeat("x", 20<<10)))
}

// A client may send a frame in one piece with its request.
func TestChat_EarlyData(t *testing.T) {
	p := started(t)
	conn, err := net.Dial("tcp", p.plain)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(limit)))
	request := "GET /ws?room=r&name=ann HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	_, err = conn.Write(append([]byte(request), ws.MustCompileFrame(ws.MaskFrame(text("early")))...))
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
	c := client{conn, in}
	require.Equal(t, "* ann joined", c.read(t))
	require.Equal(t, "ann: early", c.read(t))
}

// What is not allowed ends with the close code of RFC 6455, section 7.4.1.
func TestChat_RefusesInvalidFrames(t *testing.T) {
	p := started(t)
	unmasked := ws.MustCompileFrame(text("x"))
	for _, c := range []struct {
		what string
		sent []byte
		code ws.StatusCode
	}{
		{"binary", ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame([]byte{1}))), ws.StatusUnsupportedData},
		{"not UTF-8", ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte{0xff}))), ws.StatusInvalidFramePayloadData},
		{"too long", ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame(make([]byte, maxMessage+1)))), ws.StatusMessageTooBig},
		{"no mask", unmasked, ws.StatusProtocolError},
		{"continuation of nothing", ws.MustCompileFrame(ws.MaskFrame(ws.NewFrame(ws.OpContinuation, true, nil))), ws.StatusProtocolError},
		{"close", ws.MustCompileFrame(ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))), ws.StatusNormalClosure},
	} {
		m := join(t, "ws://"+p.plain, "r", "ann")
		_, err := m.conn.Write(c.sent)
		require.NoError(t, err)
		f := m.next(t)
		require.Equal(t, ws.OpClose, f.Header.OpCode, c.what)
		code, _ := ws.ParseCloseFrameData(f.Payload)
		require.Equal(t, c.code, code, c.what)
		require.NoError(t, m.conn.Close())
	}
	require.Contains(t, p.ends(t), "6 members, 0 messages, 0 dropped")
}

// A member that does not read is dropped, and the others have every message.
func TestChat_DropsSlowReaders(t *testing.T) {
	p := started(t, "-unsent", "65536")
	slow := join(t, "ws://"+p.plain, "r", "slow")
	fast := join(t, "ws://"+p.plain, "r", "fast")
	message := strings.Repeat("x", 32<<10)
	for n := 0; ; n++ {
		require.Less(t, n, 10_000)
		fast.write(t, text(message))
		if got := fast.read(t); got == "* slow left" {
			require.Equal(t, "fast: "+message, fast.read(t))
			break
		} else if got != "fast: "+message {
			t.Fatalf("message %d: %.50q", n, got)
		}
	}
	_, err := io.Copy(io.Discard, slow.conn)
	require.Error(t, err) // a reset
	require.Contains(t, p.ends(t), "1 dropped")
}

// A member is not dropped as long as it sends anything, such as a long message, bit by bit.
func TestChat_SlowWriterStays(t *testing.T) {
	p := started(t, "-ping", "700ms") // much longer than the test may take to send a byte
	c := join(t, "ws://"+p.plain, "r", "ann")
	rest := ws.MustCompileFrame(ws.MaskFrame(text("slow")))
	for {
		f := c.next(t)
		switch f.Header.OpCode {
		case ws.OpPing:
			n := min(max(len(rest)-3, 1), len(rest)) // the last three bytes take an interval each
			_, err := c.conn.Write(rest[:n])
			require.NoError(t, err)
			rest = rest[n:]
		case ws.OpText:
			require.Equal(t, "ann: slow", string(f.Payload))
			return
		}
	}
}

// A member that answers pings stays, and one that does not is dropped.
func TestChat_Pings(t *testing.T) {
	p := started(t, "-ping", "50ms")
	silent := join(t, "ws://"+p.plain, "r", "silent")
	c := join(t, "ws://"+p.plain, "r", "ann")
	pings := 0
	for left := false; !left || pings < 5; {
		f := c.next(t)
		switch f.Header.OpCode {
		case ws.OpPing:
			pings++
			c.write(t, ws.NewPongFrame(f.Payload))
		case ws.OpText:
			require.Equal(t, "* silent left", string(f.Payload))
			left = true
		}
	}
	_, err := io.Copy(io.Discard, silent.conn)
	require.Error(t, err)
}

func TestChat_ServesItsPage(t *testing.T) {
	p := started(t)
	for path, status := range map[string]int{"/": http.StatusOK, "/nothing": http.StatusNotFound, "/ws": http.StatusUpgradeRequired} {
		answer, err := http.Get("http://" + p.plain + path)
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		if path == "/ws" {
			require.GreaterOrEqual(t, answer.StatusCode, 400)
			continue
		}
		require.Equal(t, status, answer.StatusCode, path)
		require.NotEmpty(t, body)
	}
}

// Idle members cost no work, and each hears a broadcast.
func TestChat_ManyMembers(t *testing.T) {
	n := 300
	if os.Getenv("EPORE_LONG") != "" {
		n = 5000
	}
	p := started(t)
	members := make([]client, n)
	for i := range members {
		room := fmt.Sprint(i % 100)
		members[i] = join(t, "ws://"+p.plain, room, "m")
		for j := i % 100; j < i; j += 100 {
			require.Equal(t, "* m joined", members[j].read(t))
		}
	}
	members[0].write(t, text("hello"))
	for j := 0; j < n; j += 100 {
		require.Equal(t, "m: hello", members[j].read(t))
	}
	t.Logf("reached %d members", n)
	for _, m := range members {
		require.NoError(t, m.conn.Close())
	}
	require.Equal(t, fmt.Sprintf("%d members, 1 messages, 0 dropped", n), p.ends(t))
}

func TestChat_InvalidFlags(t *testing.T) {
	for _, args := range [][]string{{"-nonsense"}, {"stray"}, {"-ping", "0s"}, {"-unsent", "0"}, {"-tls", ":0", "-cert", "x"},
		{"-tls", ":0", "-key", "x"}, {"-cert", "x", "-key", "x"}} {
		require.Equal(t, 2, run(t.Context(), args, io.Discard, io.Discard))
	}
	require.Zero(t, run(t.Context(), []string{"-h"}, io.Discard, io.Discard))
	for _, args := range [][]string{{"-addr", "localhost:0"}, {"-addr", "127.0.0.1:0", "-tls", "127.0.0.1:0", "-cert", "/does/not/exist", "-key", "/does/not/exist"}} {
		require.Equal(t, 1, run(t.Context(), args, io.Discard, io.Discard))
	}
}
