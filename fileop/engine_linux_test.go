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
	"unsafe"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/fileop"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
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

// What is in the page cache is read by the call that starts the operation, up to the end of
// the file.
// contract: F2, F7
func TestOp_CachedReadEndsAtOnce(t *testing.T) {
	for name, opts := range engines {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, resultRule, queuetest.OpenBare, opts...)
			f, op := w.file(pattern(10_000, 1)), w.op(1)
			for _, c := range []struct {
				off int64
				n   int
				err error
			}{{0, 64 << 10, io.EOF}, {100, 4096, nil}, {9_000, 2_000, io.EOF}, {10_000, 1, io.EOF}, {0, 10_000, nil}} {
				b := make([]byte, c.n)
				v := unix.Iovec{Base: &b[0]}
				v.SetLen(c.n)
				if _, _, errno := unix.Syscall6(unix.SYS_PREADV2, f.Fd(), uintptr(unsafe.Pointer(&v)), 1, 0, 0, unix.RWF_NOWAIT); errno != 0 {
					t.Skip("this file system reads nothing without waiting: ", errno)
				}
				clear(b)
				require.NoError(t, op.ReadAt(f, b, c.off))
				want := pattern(10_000, 1)[c.off:]
				want = want[:min(len(want), c.n)]
				require.True(t, bytes.Equal(want, b[:len(want)]), "%+v", c) // before the event: only for this test
				_, err := op.Result()
				require.ErrorIs(t, err, fileop.ErrBusy)
				require.ErrorIs(t, op.ReadAt(f, b, c.off), fileop.ErrBusy)
				op.Cancel() // too late
				n, err := w.do(op, nil)
				require.Equal(t, c.err, err, "%+v", c)
				require.Equal(t, len(want), n, "%+v", c)
				w.nothing()
			}
			// Its event is not delivered after Close.
			require.NoError(t, op.ReadAt(f, make([]byte, 10), 0))
			require.NoError(t, op.Close())
			w.nothing()
			_, err := op.Result()
			require.NoError(t, err)
		})
	}
}

// A start that fails leaves the result of the operation before.
// contract: F3
func TestOp_RefusedStartKeepsTheResult(t *testing.T) {
	eachEngine(t, refusalRule, func(w *world) {
		f, op, b := w.file(pattern(100, 1)), w.op(1), make([]byte, 100)
		n, err := w.do(op, op.ReadAt(f, b, 10))
		require.Equal(w, io.EOF, err)
		require.Equal(w, 90, n)
		require.Error(w, op.ReadAt(f, b, -1))
		require.NoError(w, f.Close())
		require.ErrorIs(w, op.ReadAt(f, b, 0), fs.ErrClosed)
		require.ErrorIs(w, op.WriteAt(f, b, 0), fs.ErrClosed)
		n, err = op.Result()
		require.Equal(w, io.EOF, err)
		require.Equal(w, 90, n)
		w.nothing()
	})
}

// envLimit tells a process that it is to write beyond its limit.
const envLimit = "EPORE_TEST_FSIZE"

// A write beyond the limit of the process (RLIMIT_FSIZE) writes the bytes up to the limit, and
// gives EFBIG. The signal that the system sends as well does nothing.
// contract: F2
func TestOp_BeyondTheFileSizeLimit(t *testing.T) {
	const limit = 10_000
	if os.Getenv(envLimit) == "" {
		self := exec.Command(os.Args[0], "-test.v", "-test.run=^TestOp_BeyondTheFileSizeLimit$")
		self.Env = append(os.Environ(), envLimit+"=1")
		out, err := self.Output() // by a pipe: a file would have the limit, too
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "--- PASS: TestOp_BeyondTheFileSizeLimit")
		return
	}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}))
	eachEngine(t, resultRule, func(w *world) {
		f, op, b := w.file(nil), w.op(1), pattern(1000, 1)
		for _, start := range []func(off int64) error{
			func(off int64) error { return op.WriteAt(f, b, off) },
			func(off int64) error { return op.WriteSync(f, [][]byte{b[:100], b[100:]}, off) },
		} {
			for _, c := range []struct{ off, n int }{{limit, 0}, {limit - 10, 10}, {limit - 200, 200}} {
				n, err := w.do(op, start(int64(c.off)))
				require.ErrorIs(w, err, unix.EFBIG)
				var pathErr *fs.PathError
				require.ErrorAs(w, err, &pathErr)
				require.Equal(w, f.Name(), pathErr.Path)
				if name, _ := w.queue.Engine(); name == "io_uring" { // os.File.WriteAt reports none of them
					require.Equal(w, c.n, n)
				}
				got := make([]byte, c.n)
				_, err = f.ReadAt(got, int64(c.off))
				require.NoError(w, err)
				require.True(w, bytes.Equal(b[:c.n], got))
			}
			n, err := w.do(op, start(limit-1000))
			require.NoError(w, err)
			require.Equal(w, 1000, n)
			w.nothing()
		}
	})
}

// Buffers, offsets and lengths that O_DIRECT does not take are the reason that the error names.
// contract: F2
func TestOp_MisalignedDirectIO(t *testing.T) {
	eachEngine(t, resultRule, func(w *world) {
		content := pattern(64<<10, 1)
		plain := w.file(content)
		fd, err := unix.Open(plain.Name(), unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
		if err != nil {
			w.Skip("opening with O_DIRECT:", err)
		}
		f := os.NewFile(uintptr(fd), plain.Name())
		defer f.Close()
		all, err := unix.Mmap(-1, 0, 16<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		require.NoError(w, err)
		defer func() { require.NoError(w, unix.Munmap(all)) }()
		if _, err := unix.Pread(fd, all[:100], 1); err != unix.EINVAL {
			w.Skip("this file system takes everything: ", err)
		}
		op := w.op(1)
		for what, start := range map[string]func() error{
			"offset": func() error { return op.ReadAt(f, all[:4096], 1) },
			"length": func() error { return op.ReadAt(f, all[:100], 0) },
			"write":  func() error { return op.WriteAt(f, all[:100], 100) },
			"log":    func() error { return op.WriteSync(f, [][]byte{all[:4096], all[4096:5000]}, 1) },
		} {
			n, err := w.do(op, start())
			require.Zero(w, n, what)
			require.ErrorIs(w, err, unix.EINVAL, what)
			require.ErrorContains(w, err, "O_DIRECT", what)
			var pathErr *fs.PathError
			require.ErrorAs(w, err, &pathErr, what)
			w.Log(what, err)
		}
		got, err := os.ReadFile(plain.Name())
		require.NoError(w, err)
		require.True(w, bytes.Equal(content, got))
		n, err := w.do(op, op.ReadAt(f, all[:8192], 4096))
		require.NoError(w, err)
		require.Equal(w, 8192, n)
		require.True(w, bytes.Equal(content[4096:4096+8192], all[:8192]))
		w.nothing()
	})
}
