//go:build unix

package house_test

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The server in README.md compiles and runs as it stands there.
func TestREADME_ServerRuns(t *testing.T) {
	readme, err := os.ReadFile(root + "README.md")
	goTool, goErr := exec.LookPath("go")
	if err != nil || goErr != nil {
		t.Skip("the sources or the go command are not available")
	}
	block := regexp.MustCompile("(?s)```go\n(package main\n.*?)```").FindSubmatch(readme)
	require.NotNil(t, block, "README.md has no whole program")
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "server")
	require.NoError(t, os.WriteFile(source, block[1], 0o600))
	build := exec.Command(goTool, "build", "-o", program, source)
	build.Dir = root // the imports are those of this module
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	server := exec.Command(program)
	server.Stderr = os.Stderr
	stdout, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	limit := time.AfterFunc(time.Minute, func() { _ = server.Process.Kill() })
	defer limit.Stop()
	defer func() { _ = server.Process.Kill() }()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	require.True(t, ok, line)

	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "hello")
	require.NoError(t, err)
	answer := make([]byte, 5)
	_, err = io.ReadFull(c, answer)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(answer))
	require.NoError(t, c.Close())

	require.NoError(t, server.Process.Signal(os.Interrupt))
	assert.NoError(t, server.Wait(), "the server ends in order")
}
