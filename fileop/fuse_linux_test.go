package fileop_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// fuse is a file system with one file, "file", whose reads fail.
type fuse struct {
	fd    int
	errno atomic.Int32 // of reads
	reads atomic.Int32
}

// Operations of include/uapi/linux/fuse.h.
const (
	fuseLookup  = 1
	fuseForget  = 2
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRead    = 15
	fuseInit    = 26
)

// mountFuse mounts the file system and returns it with its file, or skips the test.
func mountFuse(t *testing.T) (*fuse, *os.File) {
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
	fs, ended := &fuse{fd: fd}, make(chan struct{})
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
	n, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	f := os.NewFile(uintptr(n), path)
	t.Cleanup(func() { _ = f.Close() })
	return fs, f
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
		case fuseRead:
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
		fs, f := mountFuse(w.T)
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
