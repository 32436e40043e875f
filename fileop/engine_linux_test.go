package fileop_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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
			w.untilAll(seen, len(ops))
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

// A Poll that is dropped without Close, with an operation that was started and never
// submitted, leaks, and does not end the program.
// contract: F6
func TestOp_DroppedBeforeItsTurn(t *testing.T) {
	eachEngine(t, "F6: only what the system has is pinned", func(w *world) {
		f := w.file(pattern(100, 0))
		collected := make(chan struct{})
		func() {
			p, err := epore.New()
			require.NoError(w, err)
			q, err := fileop.New(p.Registry())
			require.NoError(w, err)
			op := q.NewOp(1)
			require.NoError(w, op.ReadAt(f, make([]byte, 100), 0))
			runtime.AddCleanup(op, func(struct{}) { close(collected) }, struct{}{})
		}()
		for ended := false; !ended; runtime.GC() {
			select {
			case <-collected:
				ended = true
			case <-time.After(time.Millisecond):
			}
		}
		for range 3 { // and what a finalizer of the same moment does
			runtime.GC()
		}
	})
}

// untilAll counts events by token until n tokens had one, and checks that no more come.
func (w *world) untilAll(seen map[epore.Token]int, n int) {
	w.Helper()
	for len(seen) < n {
		for _, token := range w.next() {
			seen[token]++
		}
	}
	w.nothing()
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

// A block device is read, written and synced as a file is.
// contract: F2
func TestOp_BlockDevice(t *testing.T) {
	const size = 1 << 20
	eachEngine(t, resultRule, func(w *world) {
		back := w.file(pattern(size, 1))
		dev := loopDevice(w.T, back)
		op := w.op(1)
		got := make([]byte, size)
		n, err := w.do(op, op.ReadAt(dev, got, 0))
		require.NoError(w, err)
		require.Equal(w, size, n)
		require.True(w, bytes.Equal(pattern(size, 1), got))

		content := pattern(16<<10, 2)
		n, err = w.do(op, op.WriteSync(dev, [][]byte{content[:5000], content[5000:]}, 8192))
		require.NoError(w, err)
		require.Equal(w, len(content), n)
		_, err = w.do(op, op.Sync(dev))
		require.NoError(w, err)
		_, err = back.ReadAt(got[:len(content)], 8192)
		require.NoError(w, err)
		require.True(w, bytes.Equal(content, got[:len(content)]))

		n, err = w.do(op, op.ReadAt(dev, got, size-4096))
		require.ErrorIs(w, err, io.EOF)
		require.Equal(w, 4096, n)
		_, err = w.do(op, op.WriteAt(dev, content, size))
		require.ErrorIs(w, err, unix.ENOSPC)
	})
}

// loopDevice returns a block device whose content is that of a file, or skips the test.
func loopDevice(t *testing.T, back *os.File) *os.File {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skip("making a block device:", err)
	}
	defer control.Close()
	for range 100 { // another process may take the free one first
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Skip("making a block device:", err)
		}
		dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0)
		if err != nil {
			t.Skip("opening a loop device:", err)
		}
		if err = unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_FD, int(back.Fd())); err == nil {
			t.Cleanup(func() {
				require.NoError(t, unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0))
				require.NoError(t, dev.Close())
			})
			return dev
		}
		require.NoError(t, dev.Close())
		if err != unix.EBUSY {
			t.Skip("setting up a loop device:", err)
		}
	}
	t.Skip("no loop device is free")
	return nil
}

// The length of all buffers may be more than an int counts. Nothing is touched.
// contract: F3
func TestOp_BuffersOfTooManyBytes(t *testing.T) {
	length := 1 << 28
	if strconv.IntSize == 64 {
		length <<= strconv.IntSize / 4 // 1 << 44
	}
	b, err := unix.Mmap(-1, 0, length, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		t.Skip("mapping so much:", err)
	}
	defer func() { require.NoError(t, unix.Munmap(b)) }()
	bufs := slices.Repeat([][]byte{b}, int(^uint(0)>>1)/length+1)
	eachEngine(t, refusalRule, func(w *world) {
		f, op := w.file(nil), w.op(1)
		require.ErrorIs(w, op.WriteSync(f, bufs, 0), fs.ErrInvalid)
		w.nothing()
		_, err := w.do(op, op.WriteSync(f, nil, 0))
		require.NoError(w, err)
	})
}

// A buffer that is longer than one request can be.
// contract: F2
func TestOp_HugeBuffer(t *testing.T) {
	if os.Getenv("EPORE_LONG") == "" || raceEnabled || strconv.IntSize == 32 {
		t.Skip("it takes a gigabyte and seconds: EPORE_LONG is not set, or the race detector would take several times as much, or addresses have 32 bits")
	}
	const size = 1<<30 + 12345
	b := make([]byte, size+1)
	eachEngine(t, resultRule, func(w *world) {
		f, op := w.file(nil), w.op(1)
		tail := pattern(5000, 3)
		_, err := f.WriteAt(tail, size-int64(len(tail)))
		require.NoError(w, err)
		for _, n := range []int{size, size + 1} {
			clear(b[size-len(tail):])
			got, err := w.do(op, op.ReadAt(f, b[:n], 0))
			require.Equal(w, size, got)
			if n > size {
				require.Equal(w, io.EOF, err)
			} else {
				require.NoError(w, err)
			}
			require.True(w, bytes.Equal(tail, b[size-len(tail):size]))
		}
		n, err := w.do(op, op.WriteSync(f, [][]byte{b[:10], b[:size]}, 0))
		require.NoError(w, err)
		require.Equal(w, size+10, n)
		got := make([]byte, len(tail))
		_, err = f.ReadAt(got, size+10-int64(len(tail)))
		require.NoError(w, err)
		require.True(w, bytes.Equal(tail, got))
		require.NoError(w, f.Truncate(0))
	})
}

// The kernel may take a part of a submission, even a write without the sync after it. The
// operation goes on from there, and its buffers stay its until then.
// contract: F1, F2
func TestOp_KernelTakesAPart(t *testing.T) {
	for most := uint32(1); most < 6; most++ {
		eachEngine(t, oneEventRule, func(w *world) {
			w.queue.TakeAtMost(most)
			f := w.file(nil)
			content := pattern(1<<16, byte(most))
			ops := make([]*fileop.Op, 16)
			for i := range ops {
				ops[i] = w.op(epore.Token(i))
				require.NoError(w, ops[i].WriteSync(f, [][]byte{content[:i+1], content[i+1:]}, int64(i)<<16))
				if i%4 == 3 {
					ops[i].Cancel()
				}
			}
			seen := make(map[epore.Token]int)
			w.untilAll(seen, len(ops))
			got, err := os.ReadFile(f.Name())
			require.NoError(w, err)
			for i, op := range ops {
				require.Equal(w, 1, seen[epore.Token(i)])
				n, err := op.Result()
				if i%4 == 3 && err != nil {
					require.ErrorIs(w, err, fileop.ErrCanceled)
					continue
				}
				require.NoError(w, err)
				require.Equal(w, len(content), n)
				require.True(w, bytes.Equal(content, got[i<<16:(i+1)<<16]))
			}
		})
	}
}
