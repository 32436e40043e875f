//go:build unix || windows

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

// started runs the program, and returns its address and the rest of its output.
func started(t *testing.T, ctx context.Context, args ...string) (addr string, rest *bufio.Reader, status <-chan int) {
	t.Helper()
	p, err := epore.New()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.NoError(t, p.Close())
	t.Cleanup(backendtest.Watchdog(t, "the program ends when it is told to"))
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, args, w, w)
		_ = w.Close()
	}()
	out := bufio.NewReader(r)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	addr, _, found := strings.Cut(strings.TrimPrefix(line, "listening on "), ";")
	require.True(t, found, line)
	return addr, out, ended
}

func TestEcho_SendsBackAndStops(t *testing.T) {
	for _, args := range [][]string{nil, {"-loops", "3", "-idle", "1h"}, {"-loops", "0"}} {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		addr, out, status := started(t, ctx, args...)
		for range 5 {
			c, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			_, err = c.Write([]byte("ping"))
			require.NoError(t, err)
			buf := make([]byte, 4)
			_, err = io.ReadFull(c, buf)
			require.NoError(t, err)
			require.Equal(t, "ping", string(buf))
			require.NoError(t, c.Close())
		}
		stop()
		rest, err := io.ReadAll(out)
		require.NoError(t, err)
		require.Equal(t, "5 connections, 20 bytes\n", string(rest))
		require.Zero(t, <-status)
	}
}

func TestEcho_InvalidFlags(t *testing.T) {
	for _, args := range [][]string{{"-nonsense"}, {"-idle", "x"}} {
		require.Equal(t, 2, run(t.Context(), args, io.Discard, io.Discard))
	}
	var stderr strings.Builder
	require.Zero(t, run(t.Context(), []string{"-h"}, io.Discard, &stderr))
	require.Contains(t, stderr.String(), "-loops")
	stderr.Reset()
	require.Equal(t, 2, run(t.Context(), []string{"stray"}, io.Discard, &stderr))
	require.Contains(t, stderr.String(), `unexpected argument "stray"`)
	stderr.Reset()
	require.Equal(t, 1, run(t.Context(), []string{"-addr", "localhost:0"}, io.Discard, &stderr))
	require.Contains(t, stderr.String(), "echo: ")
	require.Contains(t, stderr.String(), "resolve it first")
}

func TestEcho_AddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var stderr strings.Builder
	require.Equal(t, 1, run(t.Context(), []string{"-addr", l.Addr().String()}, io.Discard, &stderr))
	require.Contains(t, stderr.String(), fixture.InUse.Error())
}
