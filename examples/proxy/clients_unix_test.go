//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// program returns the path of a program, or skips the test.
func program(t *testing.T, name, debian string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	t.Skipf("%s is missing (Debian: %s)", name, debian)
	return ""
}

// server starts a program, which ends with the test, and returns its output.
func server(t *testing.T, path string, args ...string) *bufio.Scanner {
	t.Helper()
	cmd := exec.Command(path, args...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	return bufio.NewScanner(out)
}

func TestProxy_CurlToNginx(t *testing.T) {
	curl, nginx := program(t, "curl", "curl"), program(t, "nginx", "nginx-light")
	dir, addr := t.TempDir(), freeAddr(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "big"), []byte(strings.Repeat("0123456789", 1<<20)), 0o644))
	require.NoError(t, os.Chmod(dir, 0o755))
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
		events {} http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f;
		uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s; server { listen %[2]s; root %[1]s; } }`, dir, addr)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "conf"), []byte(config), 0o644))
	server(t, nginx, "-e", filepath.Join(dir, "error.log"), "-c", filepath.Join(dir, "conf"))
	for begin := time.Now(); ; time.Sleep(time.Millisecond) { // it does not say when it listens
		if c, err := net.Dial("tcp", addr); err == nil {
			require.NoError(t, c.Close())
			break
		}
		require.Less(t, time.Since(begin), limit)
	}
	p := started(t, addr)
	out, err := exec.Command(curl, "-sS", "--noproxy", "*", "--max-time", "60", "-o", filepath.Join(dir, "got"), "-w", "%{http_code}",
		"http://"+p.addr+"/big", "-o", os.DevNull, "http://"+p.addr+"/nothing").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "200404", string(out))
	got, err := os.ReadFile(filepath.Join(dir, "got"))
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("0123456789", 1<<20), string(got))
	require.Contains(t, p.ends(t), "1 connections, 0 open") // both requests on one
}

func TestProxy_Iperf3(t *testing.T) {
	iperf := program(t, "iperf3", "iperf3")
	addr := freeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	out := server(t, iperf, "--server", "--bind", "127.0.0.1", "--port", port, "--forceflush")
	p := started(t, addr)
	_, port, err = net.SplitHostPort(p.addr)
	require.NoError(t, err)
	for _, direction := range []string{"--reverse", "--bidir"} {
		for out.Scan() && !strings.Contains(out.Text(), "Server listening") { // it says so before each client
		}
		out, err := exec.Command(iperf, "--client", "127.0.0.1", "--port", port, "--bytes", "64M", "--parallel", "4", direction).CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), "iperf Done.")
	}
}

func TestProxy_PrintsOnSignal(t *testing.T) {
	p := started(t, backendAt(t, "127.0.0.1:0", names("a")).Addr().String())
	require.Equal(t, "a", ask(t, p.addr))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	line, err := p.out.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "1 connections, ")
	require.Contains(t, line, "2 down")
}
