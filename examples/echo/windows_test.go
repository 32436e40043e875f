//go:build windows

package main

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

func TestEcho_StopsOnInterrupt(t *testing.T) {
	defer backendtest.Watchdog(t, "an interrupt ends the program")()
	r, w := io.Pipe()
	status := make(chan int, 1)
	var stderr strings.Builder
	go func() {
		status <- run(nil, w, &stderr)
		_ = w.Close()
	}()
	out := bufio.NewReader(r)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	addr, _, found := strings.Cut(strings.TrimPrefix(line, "listening on "), ",")
	require.True(t, found, line)
	c := dial(t, addr)
	_, err = c.Write([]byte("ping"))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 4))
	require.NoError(t, err)
	fixture.Interrupt(t)
	_, err = c.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	require.NoError(t, c.Close())
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	require.Regexp(t, `^1 connection in [0-9.]+s: 1 closed by the server\n4 bytes received, 4 sent\n$`, string(rest))
	require.Zero(t, <-status)
	require.Empty(t, stderr.String())
}

// Windows cannot distribute connections among listeners.
func TestEcho_SeveralLoopsUnsupported(t *testing.T) {
	var stdout, stderr strings.Builder
	require.Equal(t, 1, run([]string{"-loops", "2"}, &stdout, &stderr))
	require.Empty(t, stdout.String())
	require.Regexp(t, `^echo: -loops 2: listen tcp 127\.0\.0\.1:0: this system has no SO_REUSEPORT: unsupported operation\n$`, stderr.String())
}
