package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

// asProgram is an environment variable. If it is set, the test binary runs the
// program instead of the tests.
const asProgram = "EPORE_TEST_RUN_DELAYED"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// result is the outcome of a run of the program.
type result struct {
	status         int
	stdout, stderr string
}

// program runs the program in a separate process.
func program(t *testing.T, args ...string) result {
	t.Helper()
	if runtime.GOOS == "js" || runtime.GOOS == "wasip1" {
		t.Skip("no processes on " + runtime.GOOS)
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1",
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0") // or each run takes a second longer with -race
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// direct calls run in this process.
func direct(args ...string) result {
	var stdout, stderr strings.Builder
	status := run(args, &stdout, &stderr)
	return result{status, stdout.String(), stderr.String()}
}

func needQueue(t *testing.T) {
	t.Helper()
	poll, err := epore.New()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.NoError(t, poll.Close())
}

var answerLine = regexp.MustCompile(`(?m)^\[ *(\d+)ms\] request-(\d+): "(.*)"$`)

// answers returns the numbers of the requests in the order of their answers. It
// fails unless all n have an answer with the right text, and none before its delay.
func (r result) answers(t *testing.T, n int, step time.Duration) []int {
	t.Helper()
	require.Zero(t, r.status, r.stderr)
	require.Empty(t, r.stderr)
	var order, times []int
	for _, m := range answerLine.FindAllStringSubmatch(r.stdout, -1) {
		ms, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		i, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		require.Equal(t, "request-"+m[2], m[3])
		delay := config{n: n, step: step}.delayOf(i)
		require.GreaterOrEqual(t, time.Duration(ms)*time.Millisecond, delay, "early: %s", m[0])
		order, times = append(order, i), append(times, ms)
	}
	require.ElementsMatch(t, lastToFirst(n), order)
	require.True(t, slices.IsSorted(times), r.stdout)
	require.Contains(t, r.stdout, fmt.Sprintf("%d connections to ", n))
	require.Contains(t, r.stdout, fmt.Sprintf("%d answers after ", n))
	return order
}

// lastToFirst returns n, n-1, ... 1, the order of the delays.
func lastToFirst(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = n - i
	}
	return order
}

func TestDelayed_AnswersInOrderOfDelay(t *testing.T) {
	needQueue(t)
	// A machine that stalls for longer than a step may swap two answers. Then try
	// again with a longer step.
	for step := 10 * time.Millisecond; ; step *= 5 {
		order := program(t, "-delay", step.String()).answers(t, 5, step)
		if slices.Equal(lastToFirst(5), order) {
			return
		}
		require.Less(t, step, time.Second, "order %v", order)
	}
}

func TestDelayed_ManyConnections(t *testing.T) {
	needQueue(t)
	program(t, "-n", "50", "-delay", "2ms").answers(t, 50, 2*time.Millisecond)
}

func TestDelayed_ZeroDelay(t *testing.T) {
	needQueue(t)
	direct("-n", "60", "-delay", "0").answers(t, 60, 0)
}

// The server follows a script, so the order is certain even on a slow machine.
func TestDelayed_PrintsAnswersOnArrival(t *testing.T) {
	needQueue(t)
	for _, n := range []int{1, 50} {
		addr := serve(t, func(accept func() *peer) {
			peers := make([]*peer, n)
			for range n {
				p := accept()
				peers[p.number-1] = p
			}
			for _, p := range slices.Backward(peers) {
				p.say(http.StatusOK, p.text)
				p.waitUntilClosed() // the program has printed it before the next answer is sent
			}
		})
		got := direct("-n", strconv.Itoa(n), "-delay", "0", "-addr", addr)
		require.Equal(t, lastToFirst(n), got.answers(t, n, 0))
	}
}

func TestDelayed_AnswerInPieces(t *testing.T) {
	needQueue(t)
	addr := serve(t, func(accept func() *peer) {
		p, q := accept(), accept()
		for i := range max(len(p.ok()), len(q.ok())) { // byte by byte, alternating
			p.writePart(i, i+1)
			q.writePart(i, i+1)
		}
		_, _ = p.Close(), q.Close()
	})
	direct("-n", "2", "-delay", "0", "-addr", addr).answers(t, 2, 0)
}

// One read does not take the whole answer. With Edge, receive must read all of it
// after one event.
func TestDelayed_AnswerLongerThanOneRead(t *testing.T) {
	needQueue(t)
	body := strings.Repeat("x", 60_000)
	addr := serve(t, func(accept func() *peer) { accept().say(http.StatusOK, body) })
	got := direct("-n", "1", "-addr", addr)
	require.Zero(t, got.status, got.stderr)
	require.Contains(t, got.stdout, "request-1: \""+body+"\"\n")
}

// Control characters that a server sends must not reach the terminal.
func TestDelayed_QuotesAnswers(t *testing.T) {
	needQueue(t)
	addr := serve(t, func(accept func() *peer) { accept().say(http.StatusOK, "a\x1b[2J\nb") })
	got := direct("-n", "1", "-addr", addr)
	require.Zero(t, got.status, got.stderr)
	require.Contains(t, got.stdout, `request-1: "a\x1b[2J\nb"`+"\n")
}

func TestDelayed_ServerMisbehaves(t *testing.T) {
	needQueue(t)
	const early = "request-1: the server closed the connection before the answer was complete"
	broke := "request-1: the connection broke"
	if fixture.ResetIsEnd() {
		broke = early
	}
	for name, c := range map[string]struct {
		serve func(*peer)
		want  string
	}{
		"closes without an answer": {func(p *peer) {}, early + " (0 bytes arrived)"},
		"closes in the header":     {func(p *peer) { p.writePart(0, 20) }, early + " (20 bytes arrived)"},
		"closes in the body":       {func(p *peer) { p.writePart(0, len(p.ok())-1) }, early},
		"closes with a reset":      {func(p *peer) { p.SetLinger(0) }, broke},
		"speaks another protocol":  {func(p *peer) { p.write("220 mail ready\r\n") }, "request-1: malformed answer"},
		"refuses":                  {func(p *peer) { p.say(http.StatusBadRequest, "no") }, `request-1: the server refused the request: "400 Bad Request"`},
		"never ends":               {func(p *peer) { p.write(strings.Repeat("x", maxAnswer+1)) }, "request-1: the answer is longer than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, func(accept func() *peer) {
				p := accept()
				c.serve(p)
				p.Close()
			})
			got := program(t, "-n", "1", "-addr", addr)
			require.Equal(t, 1, got.status, got)
			require.Contains(t, got.stderr, "delayed: "+c.want)
			require.NotContains(t, got.stdout, "request-")
		})
	}
}

// The server closes the connection before it gets the request. Whether the send or
// the receive fails depends on what the client notices first.
func TestDelayed_ServerClosesImmediately(t *testing.T) {
	needQueue(t)
	l := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	})
	got := program(t, "-addr", l.Addr().String())
	l.Close()
	wg.Wait()
	require.Equal(t, 1, got.status, got)
	require.Regexp(t, `^delayed: request-\d: `, got.stderr)
}

// The answers to the other requests are still printed.
func TestDelayed_OneOfManyFails(t *testing.T) {
	needQueue(t)
	addr := serve(t, func(accept func() *peer) {
		peers := []*peer{accept(), accept(), accept()}
		for _, p := range peers {
			if p.number != 2 {
				p.say(http.StatusOK, p.text)
				p.waitUntilClosed()
			}
		}
		for _, p := range peers {
			p.Close()
		}
	})
	got := direct("-n", "3", "-addr", addr)
	require.Equal(t, 1, got.status)
	require.Contains(t, got.stderr, "delayed: request-2: the server closed")
	require.Contains(t, got.stdout, `request-1: "request-1"`)
	require.Contains(t, got.stdout, `request-3: "request-3"`)
}

func TestDelayed_ConnectionRefused(t *testing.T) {
	needQueue(t)
	l := listen(t)
	require.NoError(t, l.Close())
	got := program(t, "-addr", l.Addr().String())
	require.Equal(t, 1, got.status, got)
	require.Contains(t, got.stderr, "delayed: request-1: cannot connect: ")
	require.Contains(t, got.stderr, l.Addr().String())
}

func TestDelayed_TimeoutNamesUnanswered(t *testing.T) {
	needQueue(t)
	// A machine that stalls for longer than the timeout may not even connect in
	// time. Then try again with a longer timeout.
	for timeout := 100 * time.Millisecond; ; timeout *= 5 {
		addr := serve(t, func(accept func() *peer) {
			for {
				switch p := accept(); p.number {
				case 2:
					p.say(http.StatusOK, p.text)
				case 3:
					p.write("HTTP/1.1 200 OK\r\n") // and nothing else
				}
			}
		})
		began := time.Now()
		got := program(t, "-n", "3", "-delay", "0", "-addr", addr, "-timeout", timeout.String())
		require.GreaterOrEqual(t, time.Since(began), timeout, "early")
		require.Equal(t, 1, got.status, got)
		if strings.Contains(got.stdout, `request-2: "request-2"`) {
			require.Equal(t, fmt.Sprintf("delayed: no complete answer within %v to request-1, request-3\n", timeout), got.stderr)
			return
		}
		require.Less(t, timeout, time.Minute, got.stderr)
	}
}

func TestDelayed_InvalidFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"flag provided but not defined: -nonsense":            {"-nonsense"},
		`invalid value "many" for flag -n`:                    {"-n", "many"},
		"-n 0: must be from 1 to 1000":                        {"-n", "0"},
		"-n -1: must be":                                      {"-n", "-1"},
		"-n 1001: must be":                                    {"-n", "1001"},
		`unexpected argument "stray"`:                         {"-n", "1", "stray"},
		"-delay -1s: must be":                                 {"-delay", "-1s"},
		"-delay 1.5ms: must be a whole number":                {"-delay", "1500us"},
		"-timeout 0s: must be more than 0":                    {"-timeout", "0"},
		"-timeout -1s: must be":                               {"-timeout", "-1s"},
		"-delay 1s: the longest delay, 5 times that, must be": {"-delay", "1s", "-timeout", "5s"},
		"-delay 2562047h0m0s: the longest delay, 1000 times":  {"-n", "1000", "-delay", "2562047h", "-timeout", "2562047h"},
		"-addr localhost: must be host:port":                  {"-addr", "localhost"},
		"-addr localhost:: must be host:port":                 {"-addr", "localhost:"},
	} {
		t.Run(want, func(t *testing.T) {
			got := direct(args...)
			require.Equal(t, 2, got.status)
			require.Empty(t, got.stdout)
			require.Contains(t, got.stderr, "delayed: "+want)
			require.Contains(t, got.stderr, "-h for help")
		})
	}
	got := program(t, "-n", "0")
	require.Equal(t, 2, got.status)
	require.Empty(t, got.stdout)
	require.Contains(t, got.stderr, "-n 0")
}

func TestDelayed_Help(t *testing.T) {
	for _, arg := range []string{"-h", "-help", "--help"} {
		got := direct(arg)
		require.Zero(t, got.status)
		require.Empty(t, got.stderr)
		for _, flag := range []string{"-n ", "-addr ", "-delay ", "-timeout "} {
			require.Contains(t, got.stdout, "\n  "+flag)
		}
	}
	got := program(t, "-h")
	require.Zero(t, got.status)
	require.Empty(t, got.stderr)
	require.Contains(t, got.stdout, "Usage: delayed [flags]")
}

// On a system without a queue, the program reports that.
func TestDelayed_UnsupportedPlatform(t *testing.T) {
	poll, err := epore.New()
	if err == nil {
		require.NoError(t, poll.Close())
		t.Skip("this platform has a queue")
	}
	got := direct()
	require.Equal(t, 1, got.status)
	require.Empty(t, got.stdout)
	require.Equal(t, "delayed: "+err.Error()+"\n", got.stderr)
}

func TestDelayed_OutputFails(t *testing.T) {
	needQueue(t)
	for lines := range 3 { // the first line, an answer, the last line
		var stderr strings.Builder
		status := run([]string{"-n", "1", "-delay", "0"}, &fullAfter{lines}, &stderr)
		require.Equal(t, 1, status)
		require.Equal(t, "delayed: disk full\n", stderr.String())
	}
}

// fullAfter is a writer that fails after a number of lines.
type fullAfter struct{ lines int }

func (f *fullAfter) Write(b []byte) (int, error) {
	if f.lines == 0 {
		return 0, errors.New("disk full")
	}
	f.lines--
	return len(b), nil
}

func TestDelayServer_Responses(t *testing.T) {
	if runtime.GOOS == "js" || runtime.GOOS == "wasip1" {
		t.Skip("no network on " + runtime.GOOS)
	}
	s, err := startServer()
	require.NoError(t, err)
	defer s.stop()
	client := &http.Client{Transport: new(http.Transport)}
	defer client.CloseIdleConnections()
	for path, want := range map[string]int{
		"/0/hello":          200,
		"/20/hello":         200,
		"/":                 400,
		"/5":                400,
		"/5/":               400,
		"/soon/hello":       400,
		"/-1/hello":         400,
		"/2147483648/hello": 400,
		"/1/hello/more":     400,
	} {
		began := time.Now()
		response, err := client.Get("http://" + s.addr() + path)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, want, response.StatusCode, path)
		if want != 200 {
			continue
		}
		require.Equal(t, "hello", string(body))
		if path == "/20/hello" {
			require.GreaterOrEqual(t, time.Since(began), 20*time.Millisecond, "early")
		}
	}
}

// Neither a success nor a failure leaves a goroutine behind, nor does a server that
// stops while a request is pending.
func TestDelayed_LeavesNoGoroutines(t *testing.T) {
	needQueue(t)
	before := runtime.NumGoroutine()
	require.Zero(t, direct("-n", "20", "-delay", "1ms").status)
	waitForGoroutines(t, before)

	for range 5 {
		// It may just succeed. Success and failure must both end all goroutines.
		direct("-n", "20", "-delay", "1ms", "-timeout", "21ms")
		waitForGoroutines(t, before)
	}

	s, err := startServer()
	require.NoError(t, err)
	silent, err := net.Dial("tcp", s.addr())
	require.NoError(t, err)
	defer silent.Close()
	waiting, err := net.Dial("tcp", s.addr())
	require.NoError(t, err)
	defer waiting.Close()
	_, err = io.WriteString(waiting, "GET /3600000/hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	s.stop()
	answer, _ := io.ReadAll(waiting)
	require.Empty(t, answer)
	waitForGoroutines(t, before)
}

// waitForGoroutines waits until at most n goroutines are left. A goroutine that has
// signalled its end may still be exiting.
func waitForGoroutines(t *testing.T, n int) {
	t.Helper()
	for began := time.Now(); runtime.NumGoroutine() > n; runtime.Gosched() {
		if time.Since(began) > 30*time.Second {
			stacks := make([]byte, 1<<20)
			t.Fatalf("goroutines are left:\n%s", stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

// serve runs a server that follows a script until the test ends, and returns its
// address. The script calls accept for each connection, which returns once the
// request has been read. If the test ends first, accept ends the script.
func serve(t *testing.T, script func(accept func() *peer)) string {
	t.Helper()
	l := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		script(func() *peer {
			conn, err := l.Accept()
			if err != nil {
				runtime.Goexit()
			}
			context.AfterFunc(ctx, func() { conn.Close() })
			return newPeer(conn)
		})
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// peer is the server's end of a connection.
type peer struct {
	*net.TCPConn
	text   string // of the request: "request-7"
	number int    // 7
}

var requestLine = regexp.MustCompile(`^GET /\d+/(request-(\d+)) HTTP/1.1\r\n`)

// newPeer reads the request. A malformed one ends the script.
func newPeer(conn net.Conn) *peer {
	p := &peer{TCPConn: conn.(*net.TCPConn)}
	var request []byte
	for !bytes.HasSuffix(request, []byte("\r\n\r\n")) {
		b := make([]byte, 1024)
		n, err := conn.Read(b)
		if err != nil {
			runtime.Goexit()
		}
		request = append(request, b[:n]...)
	}
	m := requestLine.FindSubmatch(request)
	if m == nil {
		runtime.Goexit()
	}
	p.text = string(m[1])
	p.number, _ = strconv.Atoi(string(m[2]))
	return p
}

// response returns an HTTP answer.
func response(status int, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Length: %d\r\n\r\n%s", status, http.StatusText(status), len(body), body)
}

// ok returns the right answer for p.
func (p *peer) ok() string { return response(http.StatusOK, p.text) }

// write ignores errors: if the client has left, the test fails elsewhere.
func (p *peer) write(s string) { _, _ = io.WriteString(p, s) }

// writePart writes a part of the right answer.
func (p *peer) writePart(from, to int) {
	whole := p.ok()
	p.write(whole[min(from, len(whole)):min(to, len(whole))])
}

// say sends an answer and shuts down the sending half, as the request asks.
func (p *peer) say(status int, body string) {
	p.write(response(status, body))
	_ = p.CloseWrite()
}

// waitUntilClosed returns when the client has closed its end.
func (p *peer) waitUntilClosed() { _, _ = io.Copy(io.Discard, p) }
