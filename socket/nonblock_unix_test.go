//go:build unix

package socket_test

import (
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
)

// Another program that shares a socket may clear O_NONBLOCK: a shell whose standard input it
// is, or os.File.Fd of a duplicate. Without MSG_DONTWAIT a raw call then waits and stops the
// whole process, timers included. So this test needs a second process, which it can kill.
// contract: N1
func TestSockets_MadeBlockingDoNotWait(t *testing.T) {
	guard(t, "N1: no operation waits, even if another program has cleared O_NONBLOCK")
	cmd, output := program(t, "made blocking")
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		require.NoError(t, err, output)
	case <-time.After(fixture.Soon):
		require.NoError(t, cmd.Process.Kill())
		<-ended
		require.Fail(t, "an operation waits", output)
	}
	require.True(t, strings.HasSuffix(output.String(), "done\n"), output)
}

// useBlockingDescriptors calls every operation that may wait, on descriptors without
// O_NONBLOCK.
func useBlockingDescriptors() {
	check := func(err error) {
		if err != nil {
			println(err.Error())
			os.Exit(1)
		}
	}
	wouldBlock := func(what string, operate func() error) {
		println(what)
		for {
			err := operate()
			if err == socket.ErrWouldBlock || what == "unixgram Write" && runtime.GOOS != "linux" && err != nil {
				break // the BSDs return ENOBUFS when a Unix receiver is full
			}
			check(err)
		}
		runtime.GC() // it would wait for a raw call that waits
	}
	clearNonblock := func(s syscall.Conn) {
		raw, err := s.SyscallConn()
		check(err)
		check(raw.Control(func(fd uintptr) {
			check(unix.SetNonblock(int(fd), false)) // as a program that shares the file could
		}))
	}

	buf := make([]byte, 32<<10)
	a, b, err := socket.Pair()
	check(err)
	clearNonblock(a)
	for _, size := range []int{1, 128 << 10} { // a raw call, and one that tells the scheduler
		in := make([]byte, size)
		wouldBlock("Read", func() error { _, err := a.Read(in); return err })
		wouldBlock("ReadBuffers", func() error { _, err := a.ReadBuffers([][]byte{in, in}); return err })
	}
	for _, size := range []int{32 << 10, 128 << 10} {
		out := make([]byte, size)
		wouldBlock("Write", func() error { _, err := a.Write(out); return err })
		wouldBlock("WriteBuffers", func() error { _, err := a.WriteBuffers(&net.Buffers{out, out}); return err })
	}
	if runtime.GOOS == "darwin" {
		println("done") // macOS ignores MSG_DONTWAIT when writing
		return
	}
	check(b.Close())

	l, err := socket.Listen("tcp", "127.0.0.1:0")
	check(err)
	clearNonblock(l)
	wouldBlock("Accept", func() error { _, err := l.Accept(); return err })
	c, err := socket.Dial("tcp", l.Addr().String())
	check(err)
	println("Accept one")
	for {
		if _, err = l.Accept(); err != socket.ErrWouldBlock {
			check(err)
			break
		}
	}
	wouldBlock("Accept", func() error { _, err := l.Accept(); return err })
	check(c.Close())

	u, err := socket.ListenPacket("udp", "127.0.0.1:0")
	check(err)
	clearNonblock(u)
	wouldBlock("udp Read", func() error { _, err := u.Read(buf); return err })
	wouldBlock("udp ReadFromAddrPort", func() error { _, _, err := u.ReadFromAddrPort(buf); return err })

	dir, err := os.MkdirTemp("", "s")
	check(err)
	defer os.RemoveAll(dir)
	g, err := socket.ListenPacket("unixgram", dir+"/s")
	check(err)
	clearNonblock(g)
	wouldBlock("unixgram ReadFrom", func() error { _, _, err := g.ReadFrom(buf); return err })
	d, err := socket.DialPacket("unixgram", dir+"/s")
	check(err)
	clearNonblock(d)
	wouldBlock("unixgram Write", func() error { _, err := d.Write(buf[:1000]); return err })
	println("done")
}
