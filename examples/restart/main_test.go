//go:build unix

package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asProgram has the test binary be the program.
const asProgram = "EPORE_RESTART_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// started starts the program and returns its address; stop ends the process that serves
// by then.
func started(t *testing.T) (addr string) {
	t.Helper()
	executable, err := os.Executable()
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	cmd := exec.Command(executable, "-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	go func() { _ = cmd.Wait() }()
	out := bufio.NewReader(r)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	addr = line[strings.LastIndex(line, " ")+1 : len(line)-1]
	// All that still accept are told to end. The output ends with the last process.
	t.Cleanup(func() {
		for pid, err := ask(addr); err == nil; pid, err = ask(addr) {
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && err != syscall.ESRCH {
				require.NoError(t, err)
			}
		}
		for err == nil {
			_, err = out.ReadString('\n')
		}
	})
	return addr
}

// ask opens a connection and returns the number of the process that serves it.
func ask(addr string) (pid int, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintln(conn, "who?"); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(line))
}

// Under load, three times: no connection is refused, none is cut off, and each new process
// takes over.
// contract: N11
func TestRestart_UnderLoad(t *testing.T) {
	addr := started(t)
	var stopped atomic.Bool
	var asked atomic.Int64
	var running sync.WaitGroup
	errs := make(chan error, 8)
	for range cap(errs) {
		running.Go(func() {
			for !stopped.Load() {
				if _, err := ask(addr); err != nil {
					errs <- err
					return
				}
				asked.Add(1)
			}
		})
	}
	pid, err := ask(addr)
	require.NoError(t, err)
	seen := map[int]bool{pid: true}
	for range 3 {
		require.NoError(t, syscall.Kill(pid, syscall.SIGHUP))
		// The predecessors accept for a while too, and may answer after the new process did.
		for seen[pid] {
			pid, err = ask(addr)
			require.NoError(t, err)
		}
		seen[pid] = true
	}
	for asked.Load() < 100 && len(errs) == 0 {
		_, err := ask(addr)
		require.NoError(t, err)
	}
	stopped.Store(true)
	running.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	t.Logf("%d connections, %d processes", asked.Load(), len(seen))
}

// A connection that is open stays with its process until its client closes it.
// contract: N11
func TestRestart_KeepsConnections(t *testing.T) {
	addr := started(t)
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	in := bufio.NewReader(conn)
	first := ""
	for i := range 3 {
		_, err = fmt.Fprintln(conn, "who?")
		require.NoError(t, err)
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		if i == 0 {
			first = line
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			require.NoError(t, err)
			require.NoError(t, syscall.Kill(pid, syscall.SIGHUP))
			for other := pid; other == pid; {
				other, err = ask(addr)
				require.NoError(t, err)
			}
		}
		require.Equal(t, first, line)
	}
}
