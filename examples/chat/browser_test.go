//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// browser is a session of a chromedriver: see the W3C's WebDriver.
type browser struct {
	t   *testing.T
	url string
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	for _, name := range []string{"chromium", "chromedriver"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is missing (Debian: chromium chromium-driver)", name)
		}
	}
	cmd := exec.Command("chromedriver", "--port=0")
	cmd.Stderr = io.Discard
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	port := ""
	for lines := bufio.NewScanner(out); port == "" && lines.Scan(); {
		if _, after, found := strings.Cut(lines.Text(), "started successfully on port "); found {
			port = strings.TrimSuffix(after, ".")
		}
	}
	require.NotEmpty(t, port, "chromedriver did not start")
	go func() { _, _ = io.Copy(io.Discard, out) }()
	b := &browser{t, "http://127.0.0.1:" + port}
	args := []string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=640,400",
		"--user-data-dir=" + t.TempDir()}
	var session struct{ SessionID string }
	b.do("POST", "/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"acceptInsecureCerts": true, "goog:chromeOptions": map[string]any{"args": args}}}}, &session)
	b.url += "/session/" + session.SessionID
	t.Cleanup(func() { b.do("DELETE", "", nil, nil) }) // before the driver is killed
	return b
}

// do calls the driver, and stores what it answers in value.
func (b *browser) do(method, path string, arguments, value any) {
	b.t.Helper()
	var body io.Reader
	if arguments != nil {
		data, err := json.Marshal(arguments)
		require.NoError(b.t, err)
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequest(method, b.url+path, body)
	require.NoError(b.t, err)
	answer, err := (&http.Client{Timeout: limit}).Do(request)
	require.NoError(b.t, err)
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	require.NoError(b.t, err)
	require.Equal(b.t, http.StatusOK, answer.StatusCode, string(data))
	if value != nil {
		require.NoError(b.t, json.Unmarshal(data, &struct{ Value any }{value}))
	}
}

func (b *browser) open(url string) (tab string) {
	b.t.Helper()
	var window struct{ Handle string }
	b.do("POST", "/window/new", map[string]any{"type": "tab"}, &window)
	b.use(window.Handle)
	b.do("POST", "/url", map[string]any{"url": url}, nil)
	return window.Handle
}

func (b *browser) use(tab string) {
	b.t.Helper()
	b.do("POST", "/window", map[string]any{"handle": tab}, nil)
}

func (b *browser) script(code string) (result string) {
	b.t.Helper()
	b.do("POST", "/execute/sync", map[string]any{"script": code, "args": []any{}}, &result)
	return result
}

// say enters a message as a person would.
func (b *browser) say(message string) {
	b.t.Helper()
	var element map[string]string
	b.do("POST", "/element", map[string]any{"using": "css selector", "value": "#text"}, &element)
	for _, id := range element {
		b.do("POST", "/element/"+id+"/value", map[string]any{"text": message + "\n"}, nil)
	}
}

func (b *browser) sees(line string) {
	b.t.Helper()
	begin := time.Now()
	for !strings.Contains(b.script("return document.getElementById('log').innerText"), line) {
		require.Less(b.t, time.Since(begin), limit, line)
	}
}

// Two tabs exchange messages, one of them over TLS. EPORE_SCREENSHOT names a file for a
// picture of the second tab.
func TestChat_InABrowser(t *testing.T) {
	b := newBrowser(t)
	p := started(t)
	ann := b.open("http://" + p.plain + "/?room=lobby&name=ann")
	b.sees("* ann joined")
	bob := b.open("https://" + p.secure + "/?room=lobby&name=bob")
	b.sees("* bob joined")
	b.say("hello, ann")
	b.sees("bob: hello, ann")
	b.use(ann)
	b.sees("bob: hello, ann")
	b.say("grüß dich, bob")
	b.use(bob)
	b.sees("ann: grüß dich, bob")
	var picture string
	b.do("GET", "/screenshot", nil, &picture)
	png, err := base64.StdEncoding.DecodeString(picture)
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(png, []byte("\x89PNG")))
	if name := os.Getenv("EPORE_SCREENSHOT"); name != "" {
		require.NoError(t, os.WriteFile(name, png, 0o644))
	}
	b.script("socket.close()")
	b.use(ann)
	b.sees("* bob left")
}
