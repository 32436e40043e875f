package main

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"
)

// The remedies of winetest work: programs start, and get random numbers; package net has
// UDP; folders that are not empty can be removed.
func TestProbe(t *testing.T) {
	if os.Getenv("EPORE_TEST_WINETEST_CHILD") != "" {
		return
	}
	random := make([]byte, 16)
	_, err := rand.Read(random)
	require.NoError(t, err)
	require.NotEqual(t, make([]byte, 16), random)

	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	client, err := net.Dial("udp", server.LocalAddr().String())
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Write([]byte("hello"))
	require.NoError(t, err)
	buf := make([]byte, 16)
	n, _, err := server.ReadFrom(buf)
	require.NoError(t, err)
	require.Equal(t, "hello", string(buf[:n]))

	dir := t.TempDir() // and its removal
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "folder", "file"), []byte("x"), 0o600))

	child := exec.Command(os.Args[0], "-test.run=^TestProbe$")
	child.Env = append(os.Environ(), "EPORE_TEST_WINETEST_CHILD=1")
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// TestHang hangs until it is interrupted.
func TestHang(t *testing.T) {
	if os.Getenv(envHang) == "" {
		t.Skip("only for TestWinetest_RunsPrograms")
	}
	fmt.Println("hangs in", os.Getenv("WINEPREFIX"))
	<-time.After(time.Hour) // the runtime would report a select without cases as a deadlock
}

// TestCrash raises an exception that no Windows program can handle.
func TestCrash(t *testing.T) {
	if os.Getenv(envCrash) == "" {
		t.Skip("only for TestWinetest_RunsPrograms")
	}
	const code, noncontinuable = 0xE0C0FFEE, 1
	_, _, _ = windows.NewLazySystemDLL("kernel32.dll").NewProc("RaiseException").Call(code, noncontinuable, 0, 0)
}
