//go:build unix

package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
)

// Environment variables. With asProgram, the test binary runs the program instead of the
// tests; withLimit sets its descriptor limit.
const (
	asProgram = "EPORE_TEST_RUN_ECHO"
	withLimit = "EPORE_TEST_DESCRIPTORS"
)

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(withLimit)); err == nil {
		setDescriptors(n)
	}
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// descriptors returns how many descriptors this process may have.
func descriptors() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 256
	}
	return int(min(uint64(limit.Cur), 1<<30))
}

func setDescriptors(n int) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
	setLimit(&limit.Cur, n)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
}

func setLimit[T ~int64 | ~uint64](field *T, n int) { *field = T(n) }

// program starts the program in a separate process and returns its address.
func program(t *testing.T, env string, args ...string) (cmd *exec.Cmd, addr string, out *bufio.Reader) {
	t.Helper()
	p, err := epore.New()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.NoError(t, p.Close())
	t.Cleanup(backendtest.Watchdog(t, "a signal ends the program"))
	self, err := os.Executable()
	require.NoError(t, err)
	cmd = exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", env,
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0") // or each run takes a second longer with -race
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	out = bufio.NewReader(stdout)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	addr, _, found := strings.Cut(strings.TrimPrefix(line, "listening on "), ",")
	require.True(t, found, line)
	return cmd, addr, out
}

func TestEcho_StopsOnSignal(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		for _, args := range [][]string{nil, {"-loops", "2"}, {"-loops", "2", "-block"}} {
			cmd, addr, out := program(t, "", args...)
			c := dial(t, addr)
			_, err := c.Write([]byte("ping"))
			require.NoError(t, err)
			_, err = io.ReadFull(c, make([]byte, 4))
			require.NoError(t, err)
			require.NoError(t, cmd.Process.Signal(sig))
			_, err = c.Read(make([]byte, 1))
			require.Equal(t, io.EOF, err)
			require.NoError(t, c.Close())
			rest, err := io.ReadAll(out)
			require.NoError(t, err)
			require.NoError(t, cmd.Wait(), "exit status 0")
			require.Regexp(t, `^1 connection in [0-9.]+s: 1 closed by the server\n4 bytes received, 4 sent\n$`, string(rest))
		}
	}
}

// With too few descriptors the clients wait, but all of them are served.
func TestEcho_OutOfDescriptors(t *testing.T) {
	cmd, addr, out := program(t, withLimit+"=40")
	const clients = 120
	var all, gate sync.WaitGroup
	gate.Add(clients)
	for range clients {
		all.Go(func() {
			c, err := net.Dial("tcp", addr)
			gate.Done()
			if err != nil {
				t.Error(err)
				return
			}
			gate.Wait() // the system has connected all; the program has not accepted that many
			if _, err := c.Write([]byte("ping")); err != nil {
				t.Error(err)
				return
			}
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Error(err)
			}
			_ = c.Close()
		})
	}
	all.Wait()
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	require.NoError(t, cmd.Wait())
	require.Contains(t, string(rest), "120 connections in ")
	require.Contains(t, string(rest), "480 bytes received, 480 sent")
	require.Contains(t, string(rest), "accepting was paused")
}
