//go:build !portable

package socket_test

import (
	"io"
	"math"
	"os"
	"os/signal"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
)

// The mode belongs to the open file: somebody else may have made it blocking, and sendfile
// and splice look at nothing else.
// contract: N16
func TestSendFile_NeverWaits(t *testing.T) {
	guard(t, "N1: no operation blocks")
	f := fileWith(t, random(16<<20))
	a, b := pair(t)
	require.NoError(t, unix.SetNonblock(descriptor(t, a), false))
	n, err := a.SendFile(f, 0, 16<<20)
	require.Equal(t, socket.ErrWouldBlock, err)
	require.Positive(t, n)
	runtime.GC()
	got := 0
	for int64(got) < n {
		m, err := b.Read(make([]byte, 1<<20))
		require.NoError(t, err)
		got += m
	}
	_, err = b.Read(make([]byte, 1))
	require.Equal(t, socket.ErrWouldBlock, err)
	require.EqualValues(t, n, got)
}

// contract: N17
func TestSpliceFrom_NeverWaits(t *testing.T) {
	for _, l := range links {
		for _, when := range []string{"before", "with bytes in the pipe"} {
			t.Run(l.name+", "+when, func(t *testing.T) {
				guard(t, "N1: no operation blocks")
				first, in, out, last := proxied(t, l)
				clear := func() {
					for _, c := range []*socket.Conn{in, out} {
						require.NoError(t, unix.SetNonblock(descriptor(t, c), false))
					}
				}
				if when == "before" {
					clear()
				}
				_, err := out.SpliceFrom(in, 10)
				require.Equal(t, socket.ErrWouldBlock, err)
				moved := fill(t, first, in, out)
				require.Equal(t, when != "before", socket.PipePending(out) > 0)
				clear()
				n, err := out.SpliceFrom(in, math.MaxInt64)
				require.Equal(t, socket.ErrWouldBlock, err)
				moved += n
				runtime.GC()
				done := make(chan string)
				go func() { done <- readAll(t, last) }()
				for out.SplicePending() > 0 {
					awaitWritable(t, out)
					n, err := out.SpliceFrom(in, int64(out.SplicePending()))
					moved += n
					if err != nil {
						require.Equal(t, socket.ErrWouldBlock, err)
					}
				}
				require.NoError(t, out.CloseWrite())
				require.EqualValues(t, moved, len(<-done))
			})
		}
	}
}

// Without descriptors for a pipe it copies, and after Close no pipe is left.
// contract: N17
func TestSpliceFrom_OutOfDescriptors(t *testing.T) {
	guard(t, ruleSplice)
	first, in, out, last := proxied(t, links[0])
	restore := fixture.LowerDescriptorLimit(t)
	runtime.GC() // twice: a pool forgets in two rounds
	runtime.GC()
	var taken []*os.File
	for {
		fd, err := unix.Open("/dev/null", unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		taken = append(taken, os.NewFile(uintptr(fd), "null"))
	}
	write(t, first, "hello")
	awaitReadable(t, in)
	n, err := out.SpliceFrom(in, 5)
	for _, f := range taken {
		_ = f.Close()
	}
	restore()
	require.NoError(t, err)
	require.EqualValues(t, 5, n)
	require.Equal(t, "hello", read(t, last, 16))
}

// contract: N17
func TestSpliceFrom_LeavesNoPipes(t *testing.T) {
	guard(t, ruleSplice)
	count := func() int {
		for range 4 { // what the pool holds is closed by the collector
			runtime.GC()
		}
		return len(fixture.Descriptors(4096))
	}
	before := count()
	for range 20 {
		first, in, out, last := proxied(t, links[0])
		fill(t, first, in, out)
		for _, c := range []*socket.Conn{first, in, out, last} {
			require.NoError(t, c.Close())
		}
	}
	for attempt := 0; ; attempt++ { // cleanups have a goroutine of their own
		after := count()
		if after <= before {
			break
		}
		require.Less(t, attempt, 1000, "%d descriptors, before %d", after, before)
		runtime.Gosched()
	}
}

// N3, except that a program that asks for SIGPIPE may get one.
// contract: N3
func TestSendFile_PeerGone(t *testing.T) {
	guard(t, "N3: writing to a peer that is gone is an error")
	c := make(chan os.Signal, 1)
	for _, asked := range []bool{false, true} {
		if asked {
			signal.Notify(c, unix.SIGPIPE)
			defer signal.Stop(c)
		}
		f := fileWith(t, []byte("data"))
		first, in, out, last := proxied(t, links[0])
		require.NoError(t, last.Close())
		_, err := out.SendFile(f, 0, 4)
		require.ErrorIs(t, err, unix.EPIPE)
		write(t, first, "x")
		awaitReadable(t, in)
		_, err = out.SpliceFrom(in, 1)
		require.ErrorIs(t, err, unix.EPIPE)
	}
}

// contract: P10
func TestSpliceFrom_AllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools")
	}
	first, in, out, last := proxied(t, links[0])
	buf := make([]byte, 64)
	noAllocs(t, "SpliceFrom", 0, func() error {
		if _, err := first.Write(buf); err != nil {
			return err
		}
		if _, err := out.SpliceFrom(in, 64); err != nil {
			return err
		}
		_, err := last.Read(buf)
		return err
	})
	fill(t, first, in, out)
	noAllocs(t, "SpliceFrom that would block", 0, func() error {
		if _, err := out.SpliceFrom(in, math.MaxInt64); err != socket.ErrWouldBlock {
			return err
		}
		return nil
	})
}

// Few bytes are copied, which costs less than a pipe. When they wait for room, and more follow
// that need the pipe, all of them come in order.
// contract: N17
func TestSpliceFrom_CopiesFewBytes(t *testing.T) {
	eachProxy(t, func(t *testing.T, first, in, out, last *socket.Conn) {
		before, err := out.Write(make([]byte, 64<<20))
		require.Equal(t, socket.ErrWouldBlock, err)
		write(t, first, "few")
		awaitReadable(t, in)
		_, err = out.SpliceFrom(in, math.MaxInt64)
		require.Equal(t, socket.ErrWouldBlock, err)
		require.Equal(t, 3, out.SplicePending())
		require.Zero(t, socket.PipePending(out))

		sizes := []int{1, 16 << 10, 16<<10 + 1, 64 << 10, 64<<10 + 1, 300 << 10, 2}
		want := "few"
		for _, n := range sizes {
			want += string(random(n))
		}
		go func() {
			write(t, first, want[3:])
			_ = first.CloseWrite()
		}()
		got := make(chan string)
		go func() { got <- readAll(t, last) }()
		for err = nil; err != io.EOF; {
			if _, err = out.SpliceFrom(in, 5_000+int64(out.SplicePending())); err == socket.ErrWouldBlock {
				if out.SplicePending() > 0 {
					awaitWritable(t, out)
				} else {
					awaitReadable(t, in)
				}
			} else if err != nil {
				require.Equal(t, io.EOF, err)
			}
		}
		require.NoError(t, out.CloseWrite())
		require.True(t, want == (<-got)[before:])
	})
}
