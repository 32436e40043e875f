//go:build unix

package tryio_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/tryio"
)

// files are pairs of what is no socket: the first is read, the second written. Each is to
// be had in both modes.
var files = []struct {
	name string
	make func(t testing.TB) (r, w int)
}{
	{"pipe", func(t testing.TB) (int, int) {
		r, w := fixture.Pipe(t)
		return r.FD, w.FD
	}},
	{"FIFO", func(t testing.TB) (int, int) {
		r, w := fixture.FIFO(t)
		return r.FD, w.FD
	}},
}

func eachFile(t *testing.T, run func(t *testing.T, r, w syscall.Conn)) {
	for _, f := range files {
		for _, mode := range []string{"non-blocking", "blocking"} {
			t.Run(f.name+", "+mode, func(t *testing.T) {
				guard(t)
				r, w := f.make(t)
				for _, fd := range []int{r, w} {
					require.NoError(t, unix.SetNonblock(fd, mode == "non-blocking"))
				}
				run(t, epore.FD(r), epore.FD(w))
			})
		}
	}
	t.Run("*os.File", func(t *testing.T) {
		guard(t)
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		defer w.Close()
		run(t, r, w)
	})
}

// contract: N18
func TestFiles(t *testing.T) {
	eachFile(t, func(t *testing.T, r, w syscall.Conn) {
		buf := make([]byte, 256<<10)
		n, err := tryio.Read(r, buf)
		require.Equal(t, tryio.ErrWouldBlock, err)
		require.Zero(t, n)
		_, err = tryio.Read(r, nil)
		require.NoError(t, err)

		// The data is larger than the pipe. All of it arrives.
		data := make([]byte, 2<<20)
		for i := range data {
			data[i] = byte(i >> 5)
		}
		var got bytes.Buffer
		for sent := 0; sent < len(data); {
			n, err := tryio.Write(w, data[sent:])
			sent += n
			if err != nil {
				require.Equal(t, tryio.ErrWouldBlock, err)
			}
			for {
				n, err := tryio.Read(r, buf)
				if err == tryio.ErrWouldBlock {
					break
				}
				require.NoError(t, err)
				got.Write(buf[:n])
			}
		}
		require.True(t, bytes.Equal(data, got.Bytes()))
	})
}

// contract: N18
func TestFiles_AtTheEnd(t *testing.T) {
	guard(t)
	r, w := fixture.Pipe(t)
	require.NoError(t, unix.SetNonblock(r.FD, false))
	w.Write("last")
	w.Close()
	buf := make([]byte, 16)
	n, err := tryio.Read(epore.FD(r.FD), buf)
	require.NoError(t, err)
	require.Equal(t, "last", string(buf[:n]))
	_, err = tryio.Read(epore.FD(r.FD), buf)
	require.Equal(t, io.EOF, err)

	r, w = fixture.Pipe(t)
	require.NoError(t, unix.SetNonblock(w.FD, false))
	r.Close()
	_, err = tryio.Write(epore.FD(w.FD), buf)
	require.ErrorIs(t, err, unix.EPIPE)
}

// A regular file is always ready.
// contract: N18
func TestFiles_Regular(t *testing.T) {
	guard(t)
	f, err := os.Create(t.TempDir() + "/f")
	require.NoError(t, err)
	defer f.Close()
	n, err := tryio.Write(f, []byte("hello"))
	require.NoError(t, err)
	require.Equal(t, 5, n)
	_, err = f.Seek(0, io.SeekStart)
	require.NoError(t, err)
	buf := make([]byte, 16)
	n, err = tryio.Read(f, buf)
	require.NoError(t, err)
	require.Equal(t, "hello", string(buf[:n]))
	_, err = tryio.Read(f, buf)
	require.Equal(t, io.EOF, err)
	require.NoError(t, f.Close())
	_, err = tryio.Read(f, buf)
	require.Error(t, err)
	_, err = tryio.Accept(f)
	require.Error(t, err)
}

// The mode belongs to the open file, not to the descriptor: any process with a duplicate can
// change it. A raw call that waits would stop the whole process at the next collection.
// contract: N18
func TestSocketsNeverWait(t *testing.T) {
	guard(t)
	a, b := netPair(t, "tcp", "127.0.0.1:0")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	for _, c := range []syscall.Conn{a.(syscall.Conn), b.(syscall.Conn), l.(syscall.Conn)} {
		require.NoError(t, unix.SetNonblock(number(t, c), false))
	}
	buf := make([]byte, 1<<20)
	_, err = tryio.Read(a.(syscall.Conn), buf)
	require.Equal(t, tryio.ErrWouldBlock, err)
	_, err = tryio.Accept(l.(syscall.Conn))
	require.Equal(t, tryio.ErrWouldBlock, err)
	for err = nil; err == nil; {
		_, err = tryio.Write(a.(syscall.Conn), buf)
	}
	require.Equal(t, tryio.ErrWouldBlock, err)
	runtime.GC()
	d, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer d.Close()
	fixture.AwaitReadable(t, number(t, l.(syscall.Conn)))
	c, err := tryio.Accept(l.(syscall.Conn))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	for _, c := range []syscall.Conn{a.(syscall.Conn), b.(syscall.Conn), l.(syscall.Conn)} {
		require.NoError(t, unix.SetNonblock(number(t, c), true))
	}
}
