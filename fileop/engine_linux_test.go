package fileop_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/fileop"
	"github.com/epore/epore/internal/fixture"
)

// envDeny names the system call that TestMain has the system deny to this process.
const envDeny = "EPORE_TEST_DENY"

func TestMain(m *testing.M) {
	calls := map[string]uint32{"io_uring_setup": unix.SYS_IO_URING_SETUP, "io_uring_enter": unix.SYS_IO_URING_ENTER, "io_uring_register": unix.SYS_IO_URING_REGISTER}
	if call, ok := calls[os.Getenv(envDeny)]; ok {
		if err := fixture.Deny(call, unix.EPERM); err != nil {
			os.Exit(3)
		}
	}
	os.Exit(m.Run())
}

// Where the system refuses io_uring, everything works with the pool.
// contract: F5
func TestEngine_RefusedBySeccomp(t *testing.T) {
	if call := os.Getenv(envDeny); call != "" {
		var log bytes.Buffer
		onEpoll := func(opts ...epore.Option) (*epore.Poll, error) { return epore.NewWith(epoll.New(), opts...) }
		w := newWorld(t, oneEventRule, onEpoll, fileop.WithLogger(hclog.New(&hclog.LoggerOptions{Output: &log})))
		name, why := w.queue.Engine()
		require.Equal(t, "pool", name)
		require.ErrorContains(t, why, call)
		require.ErrorContains(t, why, "seccomp")
		require.Equal(t, 1, strings.Count(log.String(), "pool of goroutines"))
		op := w.op(1)
		n, err := w.do(op, op.WriteSync(w.file(nil), [][]byte{[]byte("record")}, 0))
		require.NoError(t, err)
		require.Equal(t, 6, n)
		return
	}
	for _, call := range []string{"io_uring_setup", "io_uring_enter", "io_uring_register"} {
		t.Run(call, func(t *testing.T) {
			self := exec.Command(os.Args[0], "-test.v", "-test.run=^TestEngine_RefusedBySeccomp$")
			self.Env = append(os.Environ(), envDeny+"="+call)
			out, err := self.CombinedOutput()
			if self.ProcessState.ExitCode() == 3 {
				t.Skip("seccomp filters cannot be installed here")
			}
			require.NoError(t, err, "%s", out)
			require.Contains(t, string(out), "--- PASS: TestEngine_RefusedBySeccomp")
		})
	}
}

// The kernel cancels what a thread has submitted when the thread ends. Nothing is lost.
// contract: F1
func TestOp_ThreadEnds(t *testing.T) {
	eachEngine(t, oneEventRule, func(w *world) {
		if w.poll.Capabilities().OneThread {
			w.Skip("on this queue, nobody can poll any more")
		}
		f := w.file(nil)
		content := pattern(1<<16, 1)
		ops := make([]*fileop.Op, 32)
		for i := range ops {
			ops[i] = w.op(epore.Token(i))
		}
		for round := range 10 {
			seen := make(map[epore.Token]int)
			fixture.OnEndingThread(w, func() {
				for i, op := range ops {
					require.NoError(w, op.WriteSync(f, [][]byte{content[:i], content[i:]}, int64(i)<<16))
				}
				require.NoError(w, w.poll.Poll(w.events, 0)) // submits
				for ev := range w.events.All() {
					seen[ev.Token]++
				}
			})
			for len(seen) < len(ops) {
				for _, token := range w.next() {
					seen[token]++
				}
			}
			w.nothing()
			got, err := os.ReadFile(f.Name())
			require.NoError(w, err)
			for i, op := range ops {
				n, err := op.Result()
				require.NoError(w, err)
				require.Equal(w, len(content), n)
				require.Equal(w, 1, seen[epore.Token(i)])
				require.True(w, bytes.Equal(content, got[i<<16:(i+1)<<16]))
			}
			require.NoError(w, f.Truncate(int64(round)))
			require.NoError(w, w.poll.Poll(w.events, 0))
		}
	})
}

// A full disk gives the bytes that fit, and ENOSPC.
// contract: F2
func TestOp_DiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("mounting a small tmpfs:", err)
	}
	defer func() { require.NoError(t, unix.Unmount(dir, 0)) }()
	eachEngine(t, resultRule, func(w *world) {
		w.dir = dir
		f, op := w.file(nil), w.op(1)
		n, err := w.do(op, op.WriteAt(f, make([]byte, 1<<20), 0))
		require.ErrorIs(w, err, unix.ENOSPC)
		require.LessOrEqual(w, n, 64<<10)
		if name, _ := w.queue.Engine(); name == "io_uring" { // os.File.WriteAt reports none of them
			require.Equal(w, 64<<10, n)
		}
		n, err = w.do(op, op.WriteSync(f, [][]byte{make([]byte, 4096)}, 1<<20))
		require.ErrorIs(w, err, unix.ENOSPC)
		require.Zero(w, n)
		require.NoError(w, f.Truncate(0))
		_, err = w.do(op, op.WriteSync(f, [][]byte{make([]byte, 4096)}, 0))
		require.NoError(w, err)
		require.NoError(w, f.Close())
	})
}
