//go:build unix || windows

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

const limit = time.Minute

const hosts = `
# a comment
192.0.2.1 one.test alias.test # another
2001:db8::1 one.test
192.0.2.2 TWO.test
192.0.2.3 three.test three.test
192.0.2.3 three.test
`

type program struct {
	addr   string
	stop   func()
	out    *bufio.Reader
	status chan int
}

func started(t *testing.T, args ...string) *program {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(file, []byte(hosts), 0o644))
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	p := &program{stop: stop, out: bufio.NewReader(r), status: make(chan int, 1)}
	go func() {
		p.status <- run(ctx, append([]string{"-addr", "127.0.0.1:0", "-hosts", file}, args...), w, io.Discard)
		_ = w.Close()
	}()
	t.Cleanup(func() {
		stop()
		_, _ = io.Copy(io.Discard, p.out)
	})
	line, err := p.out.ReadString('\n')
	require.NoError(t, err)
	p.addr, _, _ = strings.Cut(strings.TrimPrefix(line, "listening on "), ";")
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

// ask returns the code and the values of an answer.
func ask(t *testing.T, addr, name string, kind uint16) string {
	t.Helper()
	c := dns.Client{Timeout: limit}
	a, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, kind), addr)
	require.NoError(t, err)
	all := dns.RcodeToString[a.Rcode]
	for _, rr := range a.Answer {
		all += " " + rr.String()[len(rr.Header().String()):]
	}
	return all
}

func TestDNS_Hosts(t *testing.T) {
	p := started(t)
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{"one.test.", dns.TypeA, "NOERROR 192.0.2.1"},
		{"OnE.tEsT.", dns.TypeA, "NOERROR 192.0.2.1"},
		{"alias.test.", dns.TypeA, "NOERROR 192.0.2.1"},
		{"one.test.", dns.TypeAAAA, "NOERROR 2001:db8::1"},
		{"two.test.", dns.TypeA, "NOERROR 192.0.2.2"},
		{"two.test.", dns.TypeAAAA, "NOERROR"},
		{"two.test.", dns.TypeMX, "NOERROR"},
		{"1.2.0.192.in-addr.arpa.", dns.TypePTR, "NOERROR one.test."},
		{"2.2.0.192.in-addr.arpa.", dns.TypeA, "NOERROR"},
		{"other.test.", dns.TypeA, "REFUSED"},
		{"three.test.", dns.TypeA, "NOERROR 192.0.2.3"},
		{"one.test.", dns.TypeANY, "NOERROR 192.0.2.1 2001:db8::1"},
		{"1.2.0.192.in-addr.arpa.", dns.TypeANY, "NOERROR one.test."},
	} {
		require.Equal(t, c.want, ask(t, p.addr, c.name, c.kind), c.name)
	}
	// What is no query gets no answer, and harms nothing.
	conn, err := net.Dial("udp", p.addr)
	require.NoError(t, err)
	defer conn.Close()
	for _, bad := range [][]byte{{}, {1}, make([]byte, 12), make([]byte, maxQuery+1)} {
		_, err = conn.Write(bad)
		require.NoError(t, err)
	}
	require.Equal(t, "NOERROR 192.0.2.1", ask(t, p.addr, "one.test.", dns.TypeA))
	require.Equal(t, "14 queries answered, 0 forwarded, 0 failed", p.ends(t))
}

// A query that is not one for data of the Internet is refused as the RFCs say.
func TestDNS_Refuses(t *testing.T) {
	p := started(t)
	for what, c := range map[string]struct {
		change func(*dns.Msg)
		want   int
	}{
		"another class":        {func(q *dns.Msg) { q.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
		"several questions":    {func(q *dns.Msg) { q.Question = append(q.Question, q.Question[0]) }, dns.RcodeFormatError},
		"another opcode":       {func(q *dns.Msg) { q.Opcode = dns.OpcodeNotify }, dns.RcodeNotImplemented},
		"another EDNS":         {func(q *dns.Msg) { q.SetEdns0(1232, false).IsEdns0().SetVersion(1) }, dns.RcodeBadVers},
		"nothing is unusual":   {func(q *dns.Msg) { q.SetEdns0(1232, false) }, dns.RcodeSuccess},
		"a name of no address": {func(q *dns.Msg) { q.Question[0].Name = "other.test." }, dns.RcodeRefused},
	} {
		q := new(dns.Msg).SetQuestion("1.2.0.192.in-addr.arpa.", dns.TypePTR)
		c.change(q)
		client := dns.Client{Timeout: limit}
		a, _, err := client.Exchange(q, p.addr)
		require.NoError(t, err, what)
		require.Equal(t, c.want, a.Rcode, what)
		require.Equal(t, c.want == dns.RcodeSuccess, a.Authoritative, what)
		require.Equal(t, c.want == dns.RcodeSuccess, len(a.Answer) == 1, what)
		if opt := a.IsEdns0(); opt != nil {
			require.Zero(t, opt.Version(), what)
		}
	}
}

// However long an answer the client can read, the upstream sends none that the program cannot.
func TestDNS_LongAnswers(t *testing.T) {
	p := started(t, "-upstream", upstream(t))
	for _, size := range []uint16{512, 1232, 4096, 8192, 65535} {
		c := dns.Client{Timeout: limit, UDPSize: size}
		a, _, err := c.Exchange(new(dns.Msg).SetQuestion("long.test.", dns.TypeTXT).SetEdns0(size, false), p.addr)
		require.NoError(t, err)
		require.Equal(t, dns.RcodeSuccess, a.Rcode, size)
		require.True(t, a.Truncated, size)
		a.Compress = true // as it was sent
		require.LessOrEqual(t, a.Len(), int(size))
		require.Greater(t, a.Len(), min(int(size), maxQuery)-300)
	}
}

// An answer comes from the address that the query was sent to.
func TestDNS_AllAddresses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system chooses the address")
	}
	for _, all := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		p := started(t, "-addr", all, "-upstream", upstream(t))
		_, port, err := net.SplitHostPort(p.addr)
		require.NoError(t, err)
		for _, host := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
			if strings.HasPrefix(host, ":") && strings.HasPrefix(p.addr, "0.") {
				continue
			}
			to := net.JoinHostPort(host, port)
			require.Equal(t, "NOERROR 192.0.2.1", ask(t, to, "one.test.", dns.TypeA), "%s %s", all, to)
			require.Equal(t, "NOERROR 198.51.100.7", ask(t, to, "other.test.", dns.TypeA), "%s %s", all, to)
		}
	}
}

// upstream is a server that answers each question for an address with 198.51.100.7, and
// nothing to names that begin with "silent", the first time or always. To names that begin
// with "long" it sends all that the other side says it can read, up to 8,192 bytes.
func upstream(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	asked := make(map[string]int)
	started := make(chan struct{})
	server := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		name := q.Question[0].Name
		mu.Lock()
		asked[name]++
		n := asked[name]
		mu.Unlock()
		if strings.HasPrefix(name, "silent.") || strings.HasPrefix(name, "silent-once.") && n == 1 {
			return
		}
		a := new(dns.Msg).SetReply(q)
		if opt := q.IsEdns0(); opt != nil && strings.HasPrefix(name, "long.") {
			a.SetEdns0(8192, false)
			for range 100 {
				a.Answer = append(a.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{strings.Repeat("x", 200)}})
			}
			a.Truncate(min(int(opt.UDPSize()), 8192))
			_ = w.WriteMsg(a)
			return
		}
		rr, err := dns.NewRR(name + " 5 A 198.51.100.7")
		if err == nil {
			a.Answer = append(a.Answer, rr)
			_ = w.WriteMsg(a)
		}
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		require.NoError(t, server.Shutdown())
		<-ended
	})
	return pc.LocalAddr().String()
}

func TestDNS_Forwards(t *testing.T) {
	p := started(t, "-upstream", upstream(t), "-timeout", "50ms")
	require.Equal(t, "NOERROR 192.0.2.1", ask(t, p.addr, "one.test.", dns.TypeA))
	require.Equal(t, "NOERROR 198.51.100.7", ask(t, p.addr, "other.test.", dns.TypeA))
	require.Equal(t, "NOERROR 198.51.100.7", ask(t, p.addr, "silent-once.test.", dns.TypeA))
	begin := time.Now()
	require.Equal(t, "SERVFAIL", ask(t, p.addr, "silent.test.", dns.TypeA))
	require.GreaterOrEqual(t, time.Since(begin), 100*time.Millisecond)
	require.Equal(t, "1 queries answered, 2 forwarded, 1 failed", p.ends(t))
}

func TestDNS_ManyAtOnce(t *testing.T) {
	p := started(t, "-upstream", upstream(t))
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for j := range 100 {
				c := dns.Client{Timeout: limit}
				name, want := "one.test.", "192.0.2.1"
				if j%2 == 1 {
					name, want = fmt.Sprintf("n%d-%d.test.", i, j), "198.51.100.7"
				}
				a, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), p.addr)
				if err != nil || len(a.Answer) != 1 || !strings.HasSuffix(a.Answer[0].String(), want) {
					t.Errorf("%s: %v %v", name, a, err)
					return
				}
			}
		})
	}
	wait.Wait()
	require.Equal(t, "400 queries answered, 400 forwarded, 0 failed", p.ends(t))
}

// An upstream that is not there is reported by ICMP. That fails its queries and nothing else.
func TestDNS_NoUpstream(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := pc.LocalAddr().String()
	require.NoError(t, pc.Close())
	p := started(t, "-upstream", addr, "-timeout", "20ms")
	for range 3 {
		require.Equal(t, "SERVFAIL", ask(t, p.addr, "other.test.", dns.TypeA))
		require.Equal(t, "NOERROR 192.0.2.1", ask(t, p.addr, "one.test.", dns.TypeA))
	}
	// A client that has gone before its answer comes.
	conn, err := net.Dial("udp", p.addr)
	require.NoError(t, err)
	packed, err := new(dns.Msg).SetQuestion("other.test.", dns.TypeA).Pack()
	require.NoError(t, err)
	_, err = conn.Write(packed)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.Equal(t, "SERVFAIL", ask(t, p.addr, "other.test.", dns.TypeA))
	require.Equal(t, "NOERROR 192.0.2.1", ask(t, p.addr, "one.test.", dns.TypeA))
}

func TestDNS_Dig(t *testing.T) {
	dig, err := exec.LookPath("dig")
	if err != nil {
		t.Skip("dig is missing (Debian: bind9-dnsutils)")
	}
	p := started(t, "-upstream", upstream(t))
	host, port, err := net.SplitHostPort(p.addr)
	require.NoError(t, err)
	out, err := exec.Command(dig, "@"+host, "-p", port, "+short", "one.test", "A", "one.test", "AAAA", "other.test", "A", "-x", "192.0.2.1").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "192.0.2.1\n2001:db8::1\n198.51.100.7\none.test.\n", string(out))
	out, err = exec.Command(dig, "@"+host, "-p", port, "one.test").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "status: NOERROR")
	require.Contains(t, string(out), "udp: 4096")
	require.NotContains(t, string(out), "WARNING")
}

func TestDNS_BadInput(t *testing.T) {
	for _, args := range [][]string{{"-nonsense"}, {"stray"}, {"-timeout", "0"}} {
		require.Equal(t, 2, run(t.Context(), args, io.Discard, io.Discard))
	}
	require.Zero(t, run(t.Context(), []string{"-h"}, io.Discard, io.Discard))
	bad := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(bad, []byte("127.0.0.1 localhost\nnonsense here\n"), 0o644))
	long := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(long, []byte("127.0.0.1 "+strings.Repeat("x", 64)), 0o644))
	for args, want := range map[[2]string]string{
		{"-hosts", long}:              "not a name",
		{"-hosts", "/does/not/exist"}: "/does/not/exist",
		{"-hosts", bad}:               "line 2",
		{"-addr", "localhost:0"}:      "localhost",
	} {
		var stderr strings.Builder
		all := []string{args[0], args[1]}
		if args[0] == "-addr" {
			all = append(all, "-hosts", os.DevNull)
		}
		require.Equal(t, 1, run(t.Context(), all, io.Discard, &stderr))
		require.Contains(t, stderr.String(), want)
	}
}
