//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
)

// asProgram is an environment variable. With it, the test binary runs the program instead of
// the tests.
const asProgram = "EPORE_TEST_RUN_SUPERVISE"

// asChild is an argument. With it, the test binary is a command that prints the signals it
// gets, and ends with status 7 after all but SIGUSR1, unless told to ignore them.
const asChild = "as-child"

func child(ignoresTerm bool) {
	signals := make(chan os.Signal, 10)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGQUIT)
	fmt.Println("ready")
	for sig := range signals {
		fmt.Println(sig)
		if sig != syscall.SIGUSR1 && !ignoresTerm {
			os.Exit(7)
		}
	}
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asChild {
		child(len(os.Args) > 2)
	}
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// running is the program in a process of its own, since it takes signals.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    *bufio.Reader
	stderr bytes.Buffer
}

func started(t *testing.T, args ...string) *running {
	t.Helper()
	r := prepared(t, args...)
	out, err := r.cmd.StdoutPipe()
	require.NoError(t, err)
	r.out = bufio.NewReader(out)
	require.NoError(t, r.cmd.Start())
	return r
}

// prepared is the program before its start, without a place for its output.
func prepared(t *testing.T, args ...string) *running {
	t.Helper()
	t.Cleanup(backendtest.Watchdog(t, "the program does what the test waits for"))
	self, err := os.Executable()
	require.NoError(t, err)
	r := &running{t: t, cmd: exec.Command(self, args...)}
	r.cmd.Env = append(os.Environ(), asProgram+"=1")
	r.cmd.Stderr = &r.stderr
	return r
}

func (r *running) line() string {
	r.t.Helper()
	line, err := r.out.ReadString('\n')
	require.NoError(r.t, err)
	return strings.TrimSpace(line)
}

// end waits for the program, and returns the rest of its output and its status.
func (r *running) end() (rest string, status int) {
	r.t.Helper()
	all, err := io.ReadAll(r.out)
	require.NoError(r.t, err)
	_ = r.cmd.Wait()
	return string(all), r.cmd.ProcessState.ExitCode()
}

func TestSupervise_Once(t *testing.T) {
	rest, status := started(t, "--", "echo", "hello").end()
	require.Equal(t, "hello\n", rest)
	require.Zero(t, status)
	rest, status = started(t, "-backoff", "0", "--", "sh", "-c", "echo x; exit 3").end()
	require.Equal(t, "x\n", rest)
	require.Equal(t, 3, status)
}

// An event copies a part of what there is, so that a command that writes without end does not
// keep the program from its signals.
func TestSupervise_CopiesInTurns(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	_, err = w.Write(make([]byte, 40<<10))
	require.NoError(t, err)
	var got bytes.Buffer
	v := &supervisor{output: r, stdout: &got}
	require.NoError(t, v.handle(fromOutput))
	require.Equal(t, 32<<10, got.Len())
	require.NoError(t, v.handle(fromOutput))
	require.Equal(t, 40<<10, got.Len())
}

// What is still in the pipe when the child ends is not lost.
func TestSupervise_AllOutput(t *testing.T) {
	modes := [][]string{nil}
	if runtime.GOOS == "linux" {
		modes = append(modes, []string{"-terminal"})
	}
	for _, mode := range modes {
		for range 5 {
			r := started(t, append(mode, "--", "sh", "-c", "seq 20000; echo end")...)
			rest, status := r.end()
			require.Zero(t, status, r.stderr.String())
			var want strings.Builder
			for i := range 20000 {
				fmt.Fprintln(&want, i+1)
			}
			require.Equal(t, want.String()+"end\n", strings.ReplaceAll(rest, "\r\n", "\n"))
		}
	}
}

func TestSupervise_Terminal(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("-terminal works on Linux only")
	}
	rest, _ := started(t, "-terminal", "--", "sh", "-c", "test -t 1 && echo a terminal").end()
	require.Equal(t, "a terminal\r\n", rest)
}

// The command runs again when a file changes, is replaced, or appears in a new folder.
func TestSupervise_Changes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("1"), 0o644))
	r := started(t, "-quiet", "10ms", "-watch", dir, "--", "sh", "-c", `echo run $(cat "$0"); exec sleep 1000`, file)
	require.Equal(t, "run 1", r.line())
	require.NoError(t, os.WriteFile(file, []byte("2"), 0o644))
	require.Equal(t, "run 2", r.line())
	other := filepath.Join(dir, "other")
	require.NoError(t, os.WriteFile(other, []byte("3"), 0o644))
	require.NoError(t, os.Rename(other, file))
	for r.line() != "run 3" { // one run for each change, unless they follow each other closely
	}
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	_, status := r.end()
	require.Equal(t, 128+int(syscall.SIGTERM), status)
}

// A path that has gone is watched again when it is back, be it a folder or a file.
func TestSupervise_PathComesBack(t *testing.T) {
	for kind, create := range map[string]func(path string) error{
		"folder": func(path string) error { return os.Mkdir(path, 0o755) },
		"file":   func(path string) error { return os.WriteFile(path, nil, 0o644) },
	} {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "path")
			require.NoError(t, create(path))
			r := started(t, "-quiet", "1ms", "-look", "5ms", "-watch", path, "--",
				"sh", "-c", `test -e "$0" && echo present || echo gone; exec sleep 1000`, path)
			require.Equal(t, "present", r.line())
			for range 2 {
				require.NoError(t, os.Remove(path))
				for r.line() != "gone" {
				}
				require.NoError(t, create(path))
				for r.line() != "present" {
				}
			}
			require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
			_, _ = r.end()
		})
	}
}

// A command that cannot be executed for a while, because it is being built, has failed. It
// does not end the program.
func TestSupervise_CommandComesBack(t *testing.T) {
	script := []byte("#!/bin/sh\necho run\nexec sleep 1000\n")
	dir := t.TempDir()
	command, other := filepath.Join(dir, "command"), filepath.Join(dir, "other")
	require.NoError(t, os.WriteFile(command, script, 0o755))
	r := prepared(t, "-quiet", "1ms", "-watch", dir, "-backoff", "0", "--", command)
	r.cmd.Stderr = nil
	stderr, err := r.cmd.StderrPipe()
	require.NoError(t, err)
	out, err := r.cmd.StdoutPipe()
	require.NoError(t, err)
	r.out = bufio.NewReader(out)
	require.NoError(t, r.cmd.Start())
	require.Equal(t, "run", r.line())
	require.NoError(t, os.Rename(command, other))
	message, err := bufio.NewReader(stderr).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, message, "no such file or directory")
	require.NoError(t, os.Rename(other, command))
	require.Equal(t, "run", r.line())
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	_, status := r.end()
	require.Equal(t, 128+int(syscall.SIGTERM), status)
}

// A folder behind a symbolic link is watched with its subfolders, on every system.
func TestWatch_FollowsLinks(t *testing.T) {
	for name, watch := range map[string]func(*epore.Registry, []string, time.Duration) (watcher, error){"reports": watch, "looks": look} {
		t.Run(name, func(t *testing.T) {
			p, err := epore.New()
			require.NoError(t, err)
			defer p.Close()
			dir := t.TempDir()
			link := filepath.Join(dir, "link")
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "real", "sub"), 0o755))
			require.NoError(t, os.Symlink("real", link))
			w, err := watch(p.Registry(), []string{link}, time.Millisecond)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "real", "sub", "file"), []byte("1"), 0o644))
			awaitChange(t, p, w)
			require.NoError(t, w.Close())
		})
	}
}

// A command that fails runs again after a while, without a change.
func TestSupervise_Backoff(t *testing.T) {
	r := started(t, "-backoff", "1ms", "--", "sh", "-c", "echo run; exit 1")
	for range 4 {
		require.Equal(t, "run", r.line())
	}
	require.NoError(t, r.cmd.Process.Signal(os.Interrupt))
	_, status := r.end()
	require.NotZero(t, status)
	require.Contains(t, r.stderr.String(), "supervise: sh: exit status 1")
}

func TestSupervise_PassesSignalsOn(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	r := started(t, "--", self, asChild)
	require.Equal(t, "ready", r.line())
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGUSR1))
	require.Equal(t, syscall.SIGUSR1.String(), r.line())
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, syscall.SIGTERM.String(), r.line())
	_, status := r.end()
	require.Equal(t, 7, status)
	r = started(t, "--", self, asChild)
	require.Equal(t, "ready", r.line())
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGQUIT)) // ^\
	require.Equal(t, syscall.SIGQUIT.String(), r.line())
	_, status = r.end()
	require.Equal(t, 7, status, r.stderr.String())
}

// A child that ignores SIGTERM is killed.
func TestSupervise_Kills(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	r := started(t, "-kill", "20ms", "--", self, asChild, "ignores SIGTERM")
	require.Equal(t, "ready", r.line())
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	_, status := r.end()
	require.Equal(t, 128+int(syscall.SIGKILL), status)
}

// Further signals and changes do not give a command that is to end more time.
func TestSupervise_KillsInTime(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	t.Run("signals", func(t *testing.T) {
		r := started(t, "-kill", "200ms", "--", self, asChild, "ignores SIGTERM")
		require.Equal(t, "ready", r.line())
		for r.cmd.Process.Signal(syscall.SIGTERM) == nil {
			if _, err := r.out.ReadString('\n'); err != nil { // its answer to the signal
				break
			}
			time.Sleep(10 * time.Millisecond) // the load: less than -kill
		}
		_, status := r.end()
		require.Equal(t, 128+int(syscall.SIGKILL), status)
	})
	t.Run("changes", func(t *testing.T) {
		dir := t.TempDir()
		r := started(t, "-kill", "200ms", "-quiet", "1ms", "-watch", dir, "--", self, asChild, "ignores SIGTERM")
		require.Equal(t, "ready", r.line())
		again := make(chan struct{})
		go func() {
			defer close(again)
			for r.line() != "ready" {
			}
		}()
		for changing := true; changing; {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
			select {
			case <-again:
				changing = false
			case <-time.After(10 * time.Millisecond): // the load: less than -kill
			}
		}
		require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
		_, _ = r.end()
	})
}

// When the program fails, here because nobody reads its output, the command ends with it.
func TestSupervise_FailureEndsTheCommand(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	r := prepared(t, "-kill", "1m", "--", "sh", "-c", `echo $$; exec "$0" "$1"`, self, asChild)
	out, w, err := os.Pipe()
	require.NoError(t, err)
	r.cmd.Stdout, r.out = w, bufio.NewReader(out)
	require.NoError(t, r.cmd.Start())
	require.NoError(t, w.Close())
	var pid int
	_, err = fmt.Sscan(r.line(), &pid)
	require.NoError(t, err)
	require.Equal(t, "ready", r.line())
	require.NoError(t, out.Close())
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGUSR1)) // it answers that
	_ = r.cmd.Wait()
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Fatalf("the command still runs: %v", err)
	}
	require.Equal(t, 1, r.cmd.ProcessState.ExitCode(), r.cmd.ProcessState)
	require.Contains(t, r.stderr.String(), "broken pipe")
}

// awaitChange polls until w reports a change.
func awaitChange(t *testing.T, p *epore.Poll, w watcher) {
	t.Helper()
	events := epore.NewEvents(8)
	for begin := time.Now(); time.Since(begin) < time.Minute; {
		require.NoError(t, p.Poll(events, time.Minute))
		for range events.All() {
			changed, err := w.changed()
			require.NoError(t, err)
			if changed {
				return
			}
		}
	}
	t.Fatal("no change was seen")
}

// The way that other systems use.
func TestLook_Changes(t *testing.T) {
	p, err := epore.New()
	require.NoError(t, err)
	defer p.Close()
	dir := t.TempDir()
	l, err := look(p.Registry(), []string{dir}, time.Millisecond)
	require.NoError(t, err)
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("1"), 0o644))
	awaitChange(t, p, l)
	require.NoError(t, os.WriteFile(file, []byte("22"), 0o644))
	awaitChange(t, p, l)
	require.NoError(t, os.Remove(file))
	awaitChange(t, p, l)
	require.NoError(t, l.Close())
	_, err = look(p.Registry(), []string{file}, time.Millisecond)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestSupervise_BadInput(t *testing.T) {
	var stderr strings.Builder
	require.Equal(t, 2, run(nil, io.Discard, &stderr))
	require.Contains(t, stderr.String(), "no command")
	require.Equal(t, 2, run([]string{"-nonsense"}, io.Discard, io.Discard))
	require.Zero(t, run([]string{"-h"}, io.Discard, io.Discard))
	for _, flag := range []string{"-look=0", "-look=-1s", "-quiet=-1s", "-backoff=-1s", "-kill=-1s"} {
		require.Equal(t, 2, run([]string{flag, "--", "true"}, io.Discard, io.Discard), flag)
	}
	for _, args := range [][]string{{"--", "/does/not/exist"}, {"-watch", "/does/not/exist", "--", "true"}} {
		r := started(t, args...)
		_, status := r.end()
		require.Equal(t, 1, status)
		require.Contains(t, r.stderr.String(), "/does/not/exist")
	}
}
