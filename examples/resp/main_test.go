//go:build unix || windows

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/redcon"

	"github.com/epore/epore"
)

// limit bounds every wait.
const limit = time.Minute

// started runs the program, and returns its address. It ends with the test.
func started(t *testing.T) (addr string) {
	t.Helper()
	p, err := epore.New()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.NoError(t, p.Close())
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	status := make(chan int, 1)
	go func() { status <- run(ctx, []string{"-addr", "127.0.0.1:0"}, w, w) }()
	line, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	t.Cleanup(func() {
		stop()
		require.Zero(t, <-status)
	})
	addr, _, found := strings.Cut(strings.TrimPrefix(line, "listening on "), ";")
	require.True(t, found, line)
	return addr
}

// peer is a client.
type peer struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func connect(t *testing.T, addr string) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(limit)))
	return &peer{t, conn, bufio.NewReader(conn)}
}

func (p *peer) send(args ...string) {
	p.t.Helper()
	_, err := p.conn.Write(request(args...))
	require.NoError(p.t, err)
}

func request(args ...string) []byte {
	b := redcon.AppendArray(nil, len(args))
	for _, a := range args {
		b = redcon.AppendBulkString(b, a)
	}
	return b
}

// answer reads one answer, as the protocol has it.
func (p *peer) answer() string {
	p.t.Helper()
	line, err := p.in.ReadString('\n')
	require.NoError(p.t, err)
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	switch {
	case line[0] == '$' && n >= 0:
		b := make([]byte, n+2)
		_, err = io.ReadFull(p.in, b)
		require.NoError(p.t, err)
		line += string(b)
	case line[0] == '*':
		for range n {
			line += p.answer()
		}
	}
	return line
}

// do sends a command, and returns its answer with spaces for the ends of lines.
func (p *peer) do(args ...string) string {
	p.t.Helper()
	p.send(args...)
	return strings.TrimSpace(strings.ReplaceAll(p.answer(), "\r\n", " "))
}

func TestResp_Commands(t *testing.T) {
	p := connect(t, started(t))
	for _, step := range []struct{ command, answer string }{
		{"PING", "+PONG"},
		{"ping hello", "$5 hello"},
		{"echo x", "$1 x"},
		{"get a", "$-1"},
		{"set a 1", "+OK"},
		{"get a", "$1 1"},
		{"set a 2 nx", "$-1"},
		{"set b 2 NX", "+OK"},
		{"mget a nothing b", "*3 $1 1 $-1 $1 2"},
		{"incr a", ":2"},
		{"incr new", ":1"},
		{"ttl a", ":-1"},
		{"ttl nothing", ":-2"},
		{"expire a 100", ":1"},
		{"ttl a", ":100"},
		{"set a x", "+OK"},
		{"ttl a", ":-1"},
		{"incr a", "-ERR value is not an integer or out of range"},
		{"set big 9223372036854775807", "+OK"},
		{"incr big", "-ERR increment or decrement would overflow"},
		{"set a x ex 50", "+OK"},
		{"ttl a", ":50"},
		{"exists a a b nothing", ":3"},
		{"del a nothing b", ":2"},
		{"expire b 1", ":0"},
		{"expire new -1", ":1"},
		{"get new", "$-1"},
		{"set far x ex 9000000000000", "+OK"},
		{"get far", "$1 x"},
		{"set a x ex", "-ERR syntax error"},
		{"set a x ex 0", "-ERR invalid expire time in 'set' command"},
		{"set a x px 9223372036854775807", "-ERR invalid expire time in 'set' command"},
		{"expire a 9223372036854775807", "-ERR invalid expire time in 'expire' command"},
		{"set a x ex 1.5", "-ERR value is not an integer or out of range"},
		{"set a", "-ERR wrong number of arguments for 'set' command"},
		{"ping 1 2", "-ERR wrong number of arguments for 'ping' command"},
		{"nonsense 1 2", "-ERR unknown command 'nonsense', with args beginning with: '1' '2'"},
		{"averyveryverylongcommand", "-ERR unknown command 'averyveryverylongcommand', with args beginning with:"},
		{"echo \x00\xff", "$2 \x00\xff"},
		{"quit", "+OK"},
	} {
		require.Equal(t, step.answer, p.do(strings.Fields(step.command)...), step.command)
	}
	_, err := p.in.ReadByte()
	require.Equal(t, io.EOF, err)
}

func TestResp_Expires(t *testing.T) {
	p := connect(t, started(t))
	require.Equal(t, "+OK", p.do("set", "k", "v", "px", "30"))
	begin := time.Now()
	for p.do("get", "k") != "$-1" {
		require.Less(t, time.Since(begin), limit)
	}
	require.GreaterOrEqual(t, time.Since(begin), 25*time.Millisecond) // its clock has milliseconds
	// The timer removes it, whether anybody asks or not.
	require.Equal(t, "+OK", p.do("set", "k", "v", "px", "1"))
	for strings.Contains(p.do("info"), "db0:") {
		require.Less(t, time.Since(begin), limit)
	}
	// A later value is not removed by the timer of an earlier one.
	require.Equal(t, "+OK", p.do("set", "k", "v", "px", "20"))
	require.Equal(t, "+OK", p.do("set", "k", "w"))
	require.Equal(t, "+OK", p.do("set", "other", "v", "px", "30"))
	for p.do("exists", "other") != ":0" {
		require.Less(t, time.Since(begin), limit)
	}
	require.Equal(t, "$1 w", p.do("get", "k"))
}

func TestResp_PublishesToSubscribers(t *testing.T) {
	addr := started(t)
	a, b, p := connect(t, addr), connect(t, addr), connect(t, addr)
	require.Equal(t, "*3 $9 subscribe $4 news :1", a.do("subscribe", "news"))
	require.Equal(t, "*3 $9 subscribe $4 news :1", b.do("subscribe", "news"))
	require.Equal(t, "*3 $9 subscribe $5 other :2", b.do("subscribe", "other"))
	require.Equal(t, "*2 $4 pong $0", a.do("ping"))
	require.Contains(t, a.do("get", "x"), "-ERR Can't execute 'get'")
	require.Equal(t, ":2", p.do("publish", "news", "hello"))
	require.Equal(t, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n", a.answer())
	require.Equal(t, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n", b.answer())
	require.Equal(t, "*3 $11 unsubscribe $4 news :0", a.do("unsubscribe"))
	require.Equal(t, "+PONG", a.do("ping"))
	require.NoError(t, b.conn.Close())
	for p.do("publish", "news", "gone") != ":0" { // until the server has seen the end of b
	}
}

// A subscriber that never reads is disconnected, and holds nobody up.
func TestResp_DropsSlowSubscribers(t *testing.T) {
	addr := started(t)
	slow, p := connect(t, addr), connect(t, addr)
	require.Equal(t, "*3 $9 subscribe $4 news :1", slow.do("subscribe", "news"))
	message := strings.Repeat("x", 4<<20)
	n := 0
	for p.do("publish", "news", message) != ":0" {
		n++
		require.Less(t, n, 100)
	}
}

// Requests in pieces of any size, and many in one piece, have the same answers.
func TestResp_AnyPieces(t *testing.T) {
	addr := started(t)
	var all bytes.Buffer
	var want strings.Builder
	for i := range 300 {
		all.Write(request("set", fmt.Sprint("key", i%7), strings.Repeat("v", i)))
		want.WriteString("+OK\r\n")
		all.Write(request("get", fmt.Sprint("key", i%7)))
		fmt.Fprintf(&want, "$%d\r\n%s\r\n", i, strings.Repeat("v", i))
	}
	all.WriteString("PING\r\n")
	want.WriteString("+PONG\r\n")
	random := rand.New(rand.NewPCG(1, 2))
	for _, most := range []int{1, 100, 10_000, 1 << 20} {
		p := connect(t, addr)
		go func() {
			for b := all.Bytes(); len(b) > 0; {
				n := min(1+random.IntN(most), len(b))
				if _, err := p.conn.Write(b[:n]); err != nil {
					return // the answers tell
				}
				b = b[n:]
			}
		}()
		got := make([]byte, want.Len())
		_, err := io.ReadFull(p.in, got)
		require.NoError(t, err)
		require.Equal(t, want.String(), string(got))
	}
}

func TestResp_InvalidProtocol(t *testing.T) {
	addr := started(t)
	for _, bad := range []string{
		"*x\r\n", "*\r\n", "*-1\r\n", "*1\rx", "*9223372036854775807\r\n$1\r\n", "*1\r\n+x\r\n", "*1\r\n\n", "*1\r\n$x\r\n",
		"*1\r\n$-5\r\n", "*1\r\n$-1000\r\nPING\r\n", "*1\r\n$9223372036854775806\r\nx\r\n", "*1\r\n$16777217\r\n",
		"*1\r\n$1\r\nxyz", "$-5 x\r\n", "$9223372036854775807 x\r\n", "\"x\r\n",
	} {
		p := connect(t, addr)
		_, err := io.WriteString(p.conn, bad)
		require.NoError(t, err)
		all, err := io.ReadAll(p.in)
		require.NoError(t, err)
		require.Contains(t, string(all), "-", bad)
		require.Contains(t, string(all), "Protocol error", bad)
	}
	require.Equal(t, "+PONG", connect(t, addr).do("ping"))
}

// Whatever a client sends, the parser takes no bytes beyond what it was given, and what has begun
// as a request stays one until it is complete.
func TestNextRequest_AnyBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		args := make([]string, random.IntN(4))
		for i := range args {
			args[i] = strings.Repeat("v", random.IntN(12))
		}
		b := request(args...)
		for n := 1; n < len(b); n++ {
			_, used, err := nextRequest(b[:n], nil)
			require.NoError(t, err, "%q", b[:n])
			require.Zero(t, used, "%q", b[:n])
		}
		got, used, err := nextRequest(append(b, "more"...), nil)
		require.NoError(t, err)
		require.Equal(t, len(b), used)
		require.Len(t, got, len(args))
		for i := range args {
			require.Equal(t, args[i], string(got[i]))
		}
		for range 3 {
			b[random.IntN(len(b))] = "*$-09\r\n \"x"[random.IntN(10)]
		}
		got, used, err = nextRequest(b, nil)
		require.True(t, 0 <= used && used <= len(b) && (err == nil || used == 0), "%q", b)
		if used == 0 {
			continue
		}
		for _, arg := range got {
			require.LessOrEqual(t, len(arg), used, "%q", b)
		}
	}
}

func TestResp_InvalidFlags(t *testing.T) {
	for _, args := range [][]string{{"-nonsense"}, {"stray"}} {
		require.Equal(t, 2, run(t.Context(), args, io.Discard, io.Discard))
	}
	require.Zero(t, run(t.Context(), []string{"-h"}, io.Discard, io.Discard))
	require.Equal(t, 1, run(t.Context(), []string{"-addr", "localhost:0"}, io.Discard, io.Discard))
}

// program returns the path of a program, or skips the test.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is missing (Debian: redis-server)", name)
	}
	return path
}

func TestResp_RedisCLI(t *testing.T) {
	cli := program(t, "redis-cli")
	host, port, err := net.SplitHostPort(started(t))
	require.NoError(t, err)
	cmd := exec.Command(cli, "-h", host, "-p", port)
	cmd.Stdin = strings.NewReader("set greeting hello ex 10\nget greeting\nttl greeting\nmget greeting x\nincr n\nget\n")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "OK\nhello\n10\nhello\n\n1\nERR wrong number of arguments for 'get' command\n")
}

func TestResp_RedisBenchmark(t *testing.T) {
	benchmark := program(t, "redis-benchmark")
	host, port, err := net.SplitHostPort(started(t))
	require.NoError(t, err)
	out, err := exec.Command(benchmark, "-h", host, "-p", port, "-t", "ping,set,get,incr", "-n", "10000", "-P", "16", "--csv").CombinedOutput()
	require.NoError(t, err, string(out))
	for _, test := range []string{`"PING_INLINE"`, `"SET"`, `"GET"`, `"INCR"`} {
		require.Contains(t, string(out), test)
	}
}

// Random commands have the same answers as from redis-server.
func TestResp_LikeRedisServer(t *testing.T) {
	server := program(t, "redis-server")
	ours := connect(t, started(t))
	// A port below those that systems choose by themselves, so that nobody has it a moment later.
	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000)))
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	cmd := exec.Command(server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	})
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.Contains(lines.Text(), "Ready to accept connections") {
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	theirs := connect(t, addr)

	// No expiry is so short that it comes during the test.
	words := []string{"a", "b", "c", "A", "", "0", "86400000", "-1", "007", "+5", "9223372036854775807", "-9223372036854775808",
		"9223372036854775", "100000000", "x y", "\xff\xfe", "EX", "px", "NX", "nx", "PX", "10000000", "é"}
	names := []string{"ping", "echo", "get", "SET", "set", "set", "mget", "del", "exists", "incr", "expire", "ttl", "nosuch", "publish"}
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 20_000 {
		args := []string{names[random.IntN(len(names))]}
		for range random.IntN(6) {
			args = append(args, words[random.IntN(len(words))])
		}
		if args[0] == "expire" && len(args) > 3 {
			args = args[:3] // its options came with Redis 7, and this program has none
		}
		want, got := theirs.do(args...), ours.do(args...)
		if args[0] == "ttl" && want != got { // they round at different moments
			var a, b int
			_, _ = fmt.Sscanf(want+" "+got, ":%d :%d", &a, &b)
			require.True(t, a > 1 && b > 1 && a-b <= 1 && b-a <= 1, "command %d: %q: %s, want %s", i, args, got, want)
			continue
		}
		require.Equal(t, want, got, "command %d: %q", i, args)
	}
}
