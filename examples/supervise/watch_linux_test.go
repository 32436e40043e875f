package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Without inotify instances or watches, the program looks by a timer. The limits are those of
// a user namespace.
func TestWatch_LooksWithoutInotify(t *testing.T) {
	for _, limit := range []string{"max_inotify_instances", "max_inotify_watches"} {
		t.Run(limit, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "file")
			require.NoError(t, os.WriteFile(file, []byte("1"), 0o644))
			r := prepared(t, "-quiet", "1ms", "-look", "5ms", "-watch", dir, "--",
				"sh", "-c", `echo run $(cat "$0"); exec sleep 1000`, file)
			r.cmd.Args = append([]string{"sh", "-c", `echo 0 >/proc/sys/user/` + limit + ` && exec "$0" "$@"`, r.cmd.Path}, r.cmd.Args[1:]...)
			sh, err := exec.LookPath("sh")
			require.NoError(t, err)
			r.cmd.Path = sh
			r.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
			out, err := r.cmd.StdoutPipe()
			require.NoError(t, err)
			r.out = bufio.NewReader(out)
			if err := r.cmd.Start(); err != nil {
				t.Skipf("no user namespaces here: %v", err)
			}
			line, err := r.out.ReadString('\n')
			if err != nil {
				_ = r.cmd.Wait()                        // it has ended, so nothing writes to stderr any more
				if r.cmd.ProcessState.ExitCode() == 2 { // of the shell
					t.Skipf("the limit cannot be set: %s", r.stderr.String())
				}
				t.Fatalf("%v: %s", err, r.stderr.String())
			}
			require.Equal(t, "run 1\n", line)
			require.NoError(t, os.WriteFile(file, []byte("22"), 0o644))
			require.Equal(t, "run 22", r.line())
			require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
			_, _ = r.end()
		})
	}
}

// The terminal of the command is as large as that of the program.
func TestSupervise_TerminalSize(t *testing.T) {
	ours, theirs, err := openTerminal()
	require.NoError(t, err)
	defer ours.Close()
	raw, err := ours.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77})
	}))
	require.NoError(t, err)
	r := prepared(t, "-terminal", "--", "sh", "-c", "stty size <&1")
	r.cmd.Stdout, r.out = theirs, bufio.NewReader(ours)
	require.NoError(t, r.cmd.Start())
	require.NoError(t, theirs.Close())
	require.Equal(t, "33 77", r.line())
	require.NoError(t, r.cmd.Wait())
}
