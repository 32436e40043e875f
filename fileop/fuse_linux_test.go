package fileop_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/fileop"
)

// fuse is a file system with one file, "file", whose operations fail.
type fuse struct {
	fd     int
	errno  atomic.Int32 // of reads, writes and syncs
	reads  atomic.Int32 // and writes and syncs
	cached bool         // not FOPEN_DIRECT_IO: reads go through the page cache
	// If there is a channel, they are answered when it is closed.
	hold atomic.Pointer[chan struct{}]
}

// Operations of include/uapi/linux/fuse.h.
const (
	fuseLookup  = 1
	fuseForget  = 2
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRead    = 15
	fuseWrite   = 16
	fuseFsync   = 20
	fuseInit    = 26
)

// mountFuse mounts the file system and returns its file, or skips the test.
func mountFuse(t *testing.T, fs *fuse) *os.File {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("opening /dev/fuse:", err)
	}
	dir := t.TempDir()
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", fd, os.Getuid(), os.Getgid())
	if err := unix.Mount("epore", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = unix.Close(fd)
		t.Skip("mounting a file system:", err)
	}
	fs.fd = fd
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		fs.serve()
	}()
	t.Cleanup(func() {
		require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) // ends serve
		<-ended
		require.NoError(t, unix.Close(fd))
	})
	// Not by os.Open: the runtime would add the file to its poller, which asks the file system,
	// and with one processor nobody answers.
	path := filepath.Join(dir, "file")
	n, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	f := os.NewFile(uintptr(n), path)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// serve answers the requests until the file system is unmounted.
func (fs *fuse) serve() {
	in := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fs.fd, in)
		if err == unix.EINTR || err == unix.ENOENT || err == unix.EAGAIN {
			continue
		}
		if err != nil || n < 40 {
			return
		}
		var out []byte
		errno := int32(0)
		e := binary.NativeEndian
		switch node := e.Uint64(in[16:]); e.Uint32(in[4:]) {
		case fuseInit:
			out = make([]byte, 64)
			e.PutUint32(out, 7)
			e.PutUint32(out[4:], 31)
			e.PutUint32(out[20:], 1<<16) // max_write
		case fuseLookup:
			out = append(make([]byte, 40), attributes(2)...)
			e.PutUint64(out, 2)
			e.PutUint64(out[16:], 3600) // both stay valid
			e.PutUint64(out[24:], 3600)
		case fuseGetattr:
			out = append(make([]byte, 16), attributes(node)...)
			e.PutUint64(out, 3600)
		case fuseOpen:
			out = make([]byte, 16)
			e.PutUint32(out[8:], 1|1<<5) // FOPEN_DIRECT_IO, FOPEN_NOFLUSH: a process that ends does not wait for itself
			if fs.cached {
				e.PutUint32(out[8:], 1<<5)
			}
		case fuseRead, fuseWrite, fuseFsync:
			if hold := fs.hold.Load(); hold != nil {
				<-*hold
			}
			fs.reads.Add(1)
			errno = fs.errno.Load()
		case fuseForget:
			continue
		default:
			errno = int32(unix.ENOSYS)
		}
		header := make([]byte, 16, 16+len(out))
		e.PutUint32(header, uint32(16+len(out)))
		e.PutUint32(header[4:], uint32(-errno))
		copy(header[8:], in[8:16])
		_, _ = unix.Write(fs.fd, append(header, out...))
	}
}

// attributes returns a struct fuse_attr.
func attributes(node uint64) []byte {
	b := make([]byte, 88)
	e := binary.NativeEndian
	mode := uint32(unix.S_IFREG | 0o644)
	if node == 1 {
		mode = unix.S_IFDIR | 0o755
	}
	e.PutUint64(b, node)
	e.PutUint64(b[8:], 1<<20) // size
	e.PutUint32(b[60:], mode)
	e.PutUint32(b[64:], 1)
	e.PutUint32(b[68:], uint32(os.Getuid()))
	e.PutUint32(b[72:], uint32(os.Getgid()))
	e.PutUint32(b[80:], 4096)
	return b
}

// A file system may give the errors by which the kernel says that an operation has to be
// repeated. They are results then, as those of os.File are.
// contract: F2
func TestOp_FileSystemGivesOddErrors(t *testing.T) {
	eachEngine(t, resultRule, func(w *world) {
		fs := new(fuse)
		f := mountFuse(w.T, fs)
		op, b := w.op(1), make([]byte, 4096)
		for _, errno := range []unix.Errno{unix.EIO, unix.ECANCELED, unix.EAGAIN, unix.EINPROGRESS, unix.ENODEV} {
			fs.errno.Store(int32(errno))
			_, want := f.ReadAt(b, 0)
			require.ErrorIs(w, want, errno)
			fs.reads.Store(0)
			n, err := w.do(op, op.ReadAt(f, b, 0))
			require.Zero(w, n)
			require.Equal(w, want, err)
			require.Less(w, fs.reads.Load(), int32(1000))
			w.Log(err, fs.reads.Load(), "reads")
			w.nothing()
		}
	})
}

// A file system may become read-only while files are open.
// contract: F2
func TestOp_ReadOnlyFileSystem(t *testing.T) {
	eachEngine(t, resultRule, func(w *world) {
		fs := new(fuse)
		f := mountFuse(w.T, fs)
		fs.errno.Store(int32(unix.EROFS))
		op, b := w.op(1), make([]byte, 4096)
		for what, start := range map[string]func() error{
			"write":     func() error { return op.WriteAt(f, b, 0) },
			"WriteSync": func() error { return op.WriteSync(f, [][]byte{b[:10], b[10:]}, 0) },
			"sync":      func() error { return op.SyncData(f) },
		} {
			n, err := w.do(op, start())
			require.Zero(w, n, what)
			require.ErrorIs(w, err, unix.EROFS, what)
			var pathErr *os.PathError
			require.ErrorAs(w, err, &pathErr, what)
			require.Equal(w, f.Name(), pathErr.Path, what)
			w.nothing()
		}
	})
}

// A start does not wait for a file system that does not answer, whether it has a page cache or
// not.
// contract: F7
func TestOp_StartDoesNotWait(t *testing.T) {
	for _, cached := range []bool{false, true} {
		eachEngine(t, "F7: a start does not wait", func(w *world) {
			fs := &fuse{cached: cached}
			f := mountFuse(w.T, fs)
			fs.errno.Store(int32(unix.EIO))
			op, b := w.op(1), make([]byte, 4096)
			for _, start := range []func(*os.File, []byte, int64) error{op.ReadAt, op.WriteAt} {
				hold := make(chan struct{})
				fs.hold.Store(&hold)
				// Not later than that: a process that waits for a file system of its own
				// cannot even end.
				late := time.AfterFunc(5*time.Second, func() { close(hold) })
				err := start(f, b, 0)
				pollErr := w.poll.Poll(w.events, 0) // for the ring: submits
				require.True(w, late.Stop(), "the start or the Poll waited for the file system")
				_, busy := op.Result()
				close(hold)
				require.NoError(w, err)
				require.NoError(w, pollErr)
				require.Zero(w, w.events.Len())
				require.ErrorIs(w, busy, fileop.ErrBusy)
				_, err = w.do(op, nil)
				require.ErrorIs(w, err, unix.EIO)
			}
		})
	}
}
