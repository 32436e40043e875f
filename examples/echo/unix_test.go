//go:build unix

package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
)

// asProgram is an environment variable. With it, the test binary runs the program instead of
// the tests.
const asProgram = "EPORE_TEST_RUN_ECHO"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestEcho_StopsOnSignal(t *testing.T) {
	p, err := epore.New()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.NoError(t, p.Close())
	t.Cleanup(backendtest.Watchdog(t, "a signal ends the program"))
	self, err := os.Executable()
	require.NoError(t, err)
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), asProgram+"=1",
			"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0") // or each run takes a second longer with -race
		cmd.Stderr = os.Stderr
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		out := bufio.NewReader(stdout)
		line, err := out.ReadString('\n')
		require.NoError(t, err)
		addr, _, _ := strings.Cut(strings.TrimPrefix(line, "listening on "), ";")
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		_, err = c.Write([]byte("ping"))
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
		require.Equal(t, "1 connections, 4 bytes\n", string(rest))
	}
}
