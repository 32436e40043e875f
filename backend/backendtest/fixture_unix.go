//go:build unix

package backendtest

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// noFixtures says why the cases cannot run here; they can.
func noFixtures() string { return "" }

// end is one end of something that can be watched: a raw, non-blocking
// descriptor, closed when the test ends.
type end struct {
	t    *testing.T
	fd   int
	what string
	open bool
}

func newEnd(t *testing.T, fd int, what string) *end {
	t.Helper()
	unix.CloseOnExec(fd)
	require.NoError(t, unix.SetNonblock(fd, true), what)
	e := &end{t, fd, what, true}
	t.Cleanup(e.close)
	return e
}

func (e *end) String() string { return fmt.Sprintf("%s (fd %d)", e.what, e.fd) }

func (e *end) handle() backend.Handle { return backend.Handle(e.fd) }

// close closes the descriptor, once.
func (e *end) close() {
	if e.open {
		e.open = false
		require.NoError(e.t, unix.Close(e.fd), e.what)
	}
}

// again repeats a call for as long as a signal interrupts it.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

func (e *end) tryWrite(p []byte) (int, error) {
	return again(func() (int, error) { return unix.Write(e.fd, p) })
}

func (e *end) tryRead(p []byte) (int, error) {
	return again(func() (int, error) { return unix.Read(e.fd, p) })
}

// write writes s whole.
func (e *end) write(s string) {
	e.t.Helper()
	n, err := e.tryWrite([]byte(s))
	require.NoError(e.t, err, "write to %v", e)
	require.Equal(e.t, len(s), n, "write to %v", e)
}

// read reads once, at most max bytes.
func (e *end) read(max int) string {
	e.t.Helper()
	buf := make([]byte, max)
	n, err := e.tryRead(buf)
	require.NoError(e.t, err, "read from %v", e)
	return string(buf[:n])
}

// drain reads until would-block or the end and returns how much there was.
func (e *end) drain() (total int, ended bool) {
	e.t.Helper()
	buf := make([]byte, 64<<10)
	for {
		n, err := e.tryRead(buf)
		if wouldBlock(err) {
			return total, false
		}
		require.NoError(e.t, err, "read from %v", e)
		if n == 0 {
			return total, true
		}
		total += n
	}
}

// fill writes until would-block and returns how much went in.
func (e *end) fill() (total int) {
	e.t.Helper()
	buf := make([]byte, 64<<10)
	for size := len(buf); ; {
		n, err := e.tryWrite(buf[:size])
		total += max(n, 0)
		if wouldBlock(err) {
			if size == 1 {
				return total
			}
			size /= 2 // a datagram or an atomic pipe write may fit smaller
			continue
		}
		require.NoError(e.t, err, "write to %v", e)
	}
}

func wouldBlock(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EWOULDBLOCK)
}

func (e *end) shutdownWrite() {
	e.t.Helper()
	require.NoError(e.t, unix.Shutdown(e.fd, unix.SHUT_WR), "shutdown of %v", e)
}

// reset closes a TCP end so that the peer gets a reset.
func (e *end) reset() {
	e.t.Helper()
	require.NoError(e.t, unix.SetsockoptLinger(e.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	e.close()
}

// sendUrgent sends one out-of-band byte.
func (e *end) sendUrgent(b byte) {
	e.t.Helper()
	require.NoError(e.t, unix.Sendto(e.fd, []byte{b}, unix.MSG_OOB, nil))
}

// pendingError fetches SO_ERROR.
func (e *end) pendingError() error {
	e.t.Helper()
	n, err := unix.GetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	require.NoError(e.t, err)
	if n == 0 {
		return nil
	}
	return syscall.Errno(n)
}

// dup returns a second descriptor of the same description.
func (e *end) dup() *end {
	e.t.Helper()
	fd, err := unix.Dup(e.fd)
	require.NoError(e.t, err)
	return newEnd(e.t, fd, "dup of "+e.what)
}

// moveTo makes e's description appear under the number fd, which is free, and
// closes the old number: a descriptor number reused on purpose. Often it is
// there already, for the system gives the lowest number that is free.
func (e *end) moveTo(fd int) *end {
	e.t.Helper()
	if e.fd == fd {
		return e
	}
	require.NoError(e.t, dup2(e.fd, fd))
	e.close()
	return newEnd(e.t, fd, e.what)
}

// pair returns two connected stream sockets, quick ones.
func pair(t *testing.T) (a, b *end) { return socketpair(t, unix.SOCK_STREAM, "Unix stream") }

func socketpair(t *testing.T, kind int, what string) (a, b *end) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind, 0)
	require.NoError(t, err)
	return newEnd(t, fds[0], what), newEnd(t, fds[1], what)
}

// datagramPair returns two connected Unix datagram sockets.
func datagramPair(t *testing.T) (a, b *end) {
	return socketpair(t, unix.SOCK_DGRAM, "Unix datagram")
}

// listen returns a TCP listener on a free loopback port, and the port.
func listen(t *testing.T) (*end, int) {
	t.Helper()
	l := inet(t, unix.SOCK_STREAM, "TCP listener")
	require.NoError(t, unix.Bind(l.fd, loopback(0)))
	require.NoError(t, unix.Listen(l.fd, 128))
	return l, l.port()
}

// inet returns an unconnected IPv4 socket.
func inet(t *testing.T, kind int, what string) *end {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, kind, 0)
	require.NoError(t, err)
	return newEnd(t, fd, what)
}

func loopback(port int) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: port, Addr: netip.MustParseAddr("127.0.0.1").As4()}
}

func (e *end) port() int {
	e.t.Helper()
	addr, err := unix.Getsockname(e.fd)
	require.NoError(e.t, err)
	return addr.(*unix.SockaddrInet4).Port
}

// connect begins to connect to a loopback port and returns what the system
// answered at once: nil or "in progress" mostly.
func (e *end) connect(port int) error {
	err := unix.Connect(e.fd, loopback(port))
	if errors.Is(err, unix.EINPROGRESS) {
		return nil
	}
	return err
}

// accept accepts one connection, which must be there or come soon.
func (e *end) accept() *end {
	e.t.Helper()
	e.awaitReadable()
	fd, err := again(func() (int, error) {
		fd, _, err := unix.Accept(e.fd)
		return fd, err
	})
	require.NoError(e.t, err, "accept on %v", e)
	return newEnd(e.t, fd, "accepted TCP")
}

// tcpPair returns two connected TCP sockets.
func tcpPair(t *testing.T) (a, b *end) {
	t.Helper()
	l, port := listen(t)
	a = inet(t, unix.SOCK_STREAM, "TCP")
	require.NoError(t, a.connect(port))
	b = l.accept()
	l.close()
	awaitFD(t, a.fd, unix.POLLOUT)
	return a, b
}

// udpPair returns two UDP sockets connected to each other.
func udpPair(t *testing.T) (a, b *end) {
	t.Helper()
	a, b = inet(t, unix.SOCK_DGRAM, "UDP"), inet(t, unix.SOCK_DGRAM, "UDP")
	require.NoError(t, unix.Bind(a.fd, loopback(0)))
	require.NoError(t, unix.Bind(b.fd, loopback(0)))
	require.NoError(t, a.connect(b.port()))
	require.NoError(t, b.connect(a.port()))
	return a, b
}

// pipe returns the two ends of a pipe.
func pipe(t *testing.T) (r, w *end) {
	t.Helper()
	var p [2]int
	require.NoError(t, unix.Pipe(p[:]))
	return newEnd(t, p[0], "pipe to read"), newEnd(t, p[1], "pipe to write")
}

// fifo returns the two ends of a named pipe.
func fifo(t *testing.T) (r, w *end) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, unix.Mkfifo(path, 0o600))
	// In this order: a writer's non-blocking open fails without a reader.
	rfd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	r = newEnd(t, rfd, "FIFO to read")
	wfd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	return r, newEnd(t, wfd, "FIFO to write")
}

// file opens a path.
func file(t *testing.T, path string, flags int) *end {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
	require.NoError(t, err, path)
	return newEnd(t, fd, path)
}

func regularFile(t *testing.T) *end {
	return file(t, filepath.Join(t.TempDir(), "file"), unix.O_RDWR|unix.O_CREAT)
}

func directory(t *testing.T) *end { return file(t, t.TempDir(), unix.O_RDONLY) }

// awaitFD waits, without the queue under test, until fd has one of the events.
func awaitFD(t *testing.T, fd, events int) {
	t.Helper()
	for begin := time.Now(); ; {
		p := []unix.PollFd{{Fd: int32(fd)}}
		set(&p[0].Events, events)
		n, err := unix.Poll(p, int(soon/time.Millisecond))
		if n > 0 {
			return
		}
		if err != nil {
			require.ErrorIs(t, err, unix.EINTR)
		}
		require.Less(t, time.Since(begin), soon, "fd %d never has %#x", fd, events)
	}
}

// awaitReadable waits for what the network does on its own time.
func (e *end) awaitReadable() {
	e.t.Helper()
	awaitFD(e.t, e.fd, unix.POLLIN)
}

// signalSelf sends this process a signal.
func signalSelf(t *testing.T, sig os.Signal) {
	t.Helper()
	require.NoError(t, unix.Kill(os.Getpid(), sig.(syscall.Signal)))
}

// userSignal is a signal to send.
const userSignal = unix.SIGUSR1

// lowerDescriptorLimit makes the next descriptor one too many, until restored.
func lowerDescriptorLimit(t *testing.T) (restore func()) {
	t.Helper()
	var was unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	next, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0) // the lowest that is free
	require.NoError(t, err)
	require.NoError(t, unix.Close(next))
	low := was
	set(&low.Cur, next)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	return func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was)) }
}

// set stores v in a field whose type is another on each system.
func set[T ~int16 | ~uint16 | ~int64 | ~uint64](field *T, v int) { *field = T(v) }

// descriptorLimit is how many descriptors this process may have.
func descriptorLimit(t *testing.T) int {
	t.Helper()
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	return int(min(uint64(limit.Cur), 1<<30))
}

// openDescriptors counts the descriptors that are open below limit.
func openDescriptors(limit int) (n int) {
	for fd := range limit {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}
