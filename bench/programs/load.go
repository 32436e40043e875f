package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/redcon"
	"golang.org/x/sys/unix"
)

// processorTime returns what the process of the server has used, in nanoseconds. The clock
// of another process is made from its number: see clock_getcpuclockid(3).
func (s *server) processorTime() (float64, error) {
	var t unix.Timespec
	const schedulerClock = 2
	err := unix.ClockGettime(^int32(s.cmd.Process.Pid)<<3|schedulerClock, &t)
	return float64(t.Nano()), err
}

// withEnds returns what the server and this process have used. If the clients and the backend of
// a proxy run in this process, that is everything that the data has cost.
func (s *server) withEnds() (float64, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0, err
	}
	server, err := s.processorTime()
	return server + float64(t.Nano()), err
}

// perUnit measures the processor time of the server for each unit of work. The function does
// the work and returns how many units it was; brief work comes first, to warm up.
func perUnit(work func(addr string, brief bool) (units float64, err error)) func(*server, bool) (float64, error) {
	return perUnitOf((*server).processorTime, work)
}

// perUnitOf does so with the processor time that used returns.
func perUnitOf(used func(*server) (float64, error), work func(addr string, brief bool) (units float64, err error)) func(*server, bool) (float64, error) {
	return func(s *server, quick bool) (float64, error) {
		if _, err := work(s.addr, true); err != nil {
			return 0, err
		}
		before, err := used(s)
		if err != nil {
			return 0, err
		}
		units, err := work(s.addr, quick)
		if err != nil {
			return 0, err
		}
		after, err := used(s)
		return (after - before) / units, err
	}
}

func wrk(connections int) func(*server, bool) (float64, error) {
	total := regexp.MustCompile(`(\d+) requests in`)
	failed := regexp.MustCompile(`(?m)^ *(Socket errors|Non-2xx).*`)
	return perUnit(func(addr string, brief bool) (float64, error) {
		seconds := 2
		if brief {
			seconds = 1 // wrk does not know less
		}
		out, err := exec.Command("wrk", "-t1", "-c", strconv.Itoa(connections), "-d", fmt.Sprint(seconds, "s"), "http://"+addr+"/").CombinedOutput()
		if bad := failed.Find(out); err == nil && bad != nil {
			err = errors.New(string(bad))
		}
		m := total.FindSubmatch(out)
		if err != nil || m == nil {
			return 0, fmt.Errorf("wrk: %w: %s", err, out)
		}
		return strconv.ParseFloat(string(m[1]), 64)
	})
}

// asked is the key that redis-benchmark asks for. Every contestant has it, since a store is there to
// find things.
const asked = "key:__rand_int__"

func redis(connections, depth int) func(*server, bool) (float64, error) {
	get := perUnit(func(addr string, brief bool) (float64, error) {
		n := 80_000
		if depth > 1 {
			n = 500_000
		}
		if brief {
			n = 20_000
		}
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return 0, err
		}
		out, err := exec.Command("redis-benchmark", "-p", port, "-t", "get", "-q",
			"-n", strconv.Itoa(n), "-P", strconv.Itoa(depth), "-c", strconv.Itoa(connections)).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("redis-benchmark: %w: %s", err, out)
		}
		return float64(n), nil
	})
	return func(s *server, quick bool) (float64, error) {
		if err := found(s.addr); err != nil {
			return 0, err
		}
		return get(s, quick)
	}
}

// found sets the key, and asks for it: redis-benchmark takes an error for an answer like others.
func found(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // it is open
	requests := redcon.AppendArray(nil, 3)
	for _, arg := range []string{"SET", asked, "xyz"} {
		requests = redcon.AppendBulkString(requests, arg)
	}
	requests = redcon.AppendArray(requests, 2)
	for _, arg := range []string{"GET", asked} {
		requests = redcon.AppendBulkString(requests, arg)
	}
	if _, err := c.Write(requests); err != nil {
		return err
	}
	const want = "+OK\r\n$3\r\nxyz\r\n"
	got := make([]byte, len(want))
	n, err := io.ReadFull(c, got)
	if string(got) != want {
		err = errors.Join(err, fmt.Errorf("SET and GET are answered with %q", got[:n]))
	}
	return err
}

// haproxy is the command of haproxy with a configuration like that of the other proxies.
func haproxy(bin, port, backend string) []string {
	path := "haproxy"
	for _, p := range []string{"/usr/sbin/haproxy", "/usr/local/sbin/haproxy"} {
		if _, err := os.Stat(p); err == nil {
			path = p
		}
	}
	conf := filepath.Join(bin, "haproxy.conf")
	text := fmt.Sprintf("global\n nbthread 1\n maxconn 4000\ndefaults\n mode tcp\n option splice-auto\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n"+
		"listen l\n bind 127.0.0.1:%s\n server s %s\n", port, backend)
	_ = os.WriteFile(conf, []byte(text), 0o644) // without it, haproxy does not start
	return []string{path, "-db", "-q", "-f", conf}
}

// httpServer is the backend for HTTP through a proxy.
func httpServer(bin string) (string, func(), error) {
	s, err := http[0].start(bin, "")
	if err != nil {
		return "", nil, err
	}
	return s.addr, s.stop, nil
}

// sender is the backend for bulk data: it reads a number, and sends so many bytes.
func sender(string) (string, func(), error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var n int64
				if binary.Read(c, binary.BigEndian, &n) != nil {
					return // it was to see whether the proxy listens
				}
				for b := make([]byte, 256<<10); n > 0; {
					m, err := c.Write(b[:min(n, int64(len(b)))])
					if n -= int64(m); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), func() { _ = l.Close() }, nil
}

// download receives bytes on so many connections at a time.
func download(connections int, used func(*server) (float64, error)) func(*server, bool) (float64, error) {
	gigabit := perUnitOf(used, func(addr string, brief bool) (float64, error) {
		each := int64(256 << 20)
		if brief {
			each = 32 << 20
		}
		done := make(chan error, connections)
		for range connections {
			go func() { done <- receive(addr, each) }()
		}
		var failed error
		for range connections {
			failed = errors.Join(failed, <-done)
		}
		return float64(connections) * float64(each) * 8 / 1e9, failed
	})
	return func(s *server, quick bool) (float64, error) {
		ns, err := gigabit(s, quick)
		return ns / 1e6, err
	}
}

func receive(addr string, n int64) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := errors.Join(c.SetDeadline(time.Now().Add(time.Minute)), binary.Write(c, binary.BigEndian, n)); err != nil {
		return err
	}
	for b := make([]byte, 256<<10); n > 0; {
		m, err := c.Read(b)
		if n -= int64(m); err != nil {
			return err
		}
	}
	return nil
}

// member is a client of a chat.
type member struct {
	net.Conn
	in *bufio.Reader
}

// join connects to a chat and upgrades the connection.
func join(addr, room string) (*member, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	m := &member{c, bufio.NewReaderSize(c, 512)}
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // it is open
	_, err = fmt.Fprintf(c, "GET /ws?room=%s&name=m HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", room, addr)
	if err == nil {
		var answer *nethttp.Response
		if answer, err = nethttp.ReadResponse(m.in, nil); err == nil && answer.StatusCode != nethttp.StatusSwitchingProtocols {
			err = errors.New(answer.Status)
		}
	}
	if err == nil { // it is in the room when it hears that it has joined
		_, err = m.hear()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("join: %w", err), c.Close())
	}
	return m, nil
}

// say sends a text of fewer than 126 bytes, with a mask of zeros.
func (m *member) say(text string) error {
	_, err := m.Write(append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...))
	return err
}

// hear receives a text of fewer than 126 bytes.
func (m *member) hear() (string, error) {
	head, err := m.in.Peek(2)
	if err != nil {
		return "", err
	}
	if head[0] != 0x81 || head[1] > 125 {
		return "", fmt.Errorf("a frame begins with %x", head)
	}
	b := make([]byte, 2+head[1])
	_, err = io.ReadFull(m.in, b)
	return string(b[2:]), err
}

// idle measures the memory of members that do nothing, each in a room of its own.
func idle(members int) func(*server, bool) (float64, error) {
	return func(s *server, quick bool) (_ float64, err error) {
		n := members
		if quick {
			n = 100
		}
		all := make([]*member, 0, n+1)
		defer func() {
			for _, m := range all {
				_ = m.Close()
			}
		}()
		before := 0.0
		for i := range n + 1 {
			m, joinErr := join(s.addr, strconv.Itoa(i))
			if joinErr != nil {
				return 0, joinErr
			}
			all = append(all, m)
			// What the first one needs is not that of a connection.
			if i == 0 {
				if before, err = s.resident(); err != nil {
					return 0, err
				}
			}
		}
		after, err := s.resident()
		return (after - before) / float64(n), err
	}
}

// resident returns the anonymous memory of the server, in bytes.
func (s *server) resident() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	return float64(kib) * 1024, err
}

// broadcast measures messages to all members of a room. The next one is sent when all
// members have the one before.
func broadcast(members int) func(*server, bool) (float64, error) {
	return func(s *server, quick bool) (float64, error) {
		n, messages := members, 100
		if quick {
			n, messages = 50, 10
		}
		heard, failed := make(chan struct{}, n), make(chan error, n)
		var all []*member
		defer func() {
			for _, m := range all {
				_ = m.Close()
			}
		}()
		for range n {
			m, err := join(s.addr, "room")
			if err != nil {
				return 0, err
			}
			all = append(all, m)
			go func() {
				for {
					text, err := m.hear()
					if err != nil {
						failed <- err
						return
					}
					if strings.HasPrefix(text, "m: ") { // not that somebody has joined
						heard <- struct{}{}
					}
				}
			}()
		}
		text := strings.Repeat("x", 100)
		each := perUnit(func(_ string, brief bool) (float64, error) {
			count := messages
			if brief {
				count = 5
			}
			for range count {
				if err := all[0].say(text); err != nil {
					return 0, err
				}
				for range n {
					select {
					case <-heard:
					case err := <-failed:
						return 0, err
					}
				}
			}
			return float64(count * n), nil
		})
		return each(s, quick)
	}
}
